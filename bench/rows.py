"""The live query of the socket benchmarks: the rows of one key, each as large as one likes."""

from bonfire.clinical.registry import Registry
from bonfire.store.model import ReadModel, Source, desc

QUERY = "bench.rows"
KEY = "p1"
UNHEARD = "p2"
WINDOW = 50

# Stands once in each row, and nowhere else in a frame: who counts it counts rows delivered.
MARK = b'"mark":"bonfire-bench"'

BENCH_ROWS = ReadModel(
    name="benchRows",
    columns={"patient": "text", "mark": "text", "number": "integer", "text": "text"},
    sources=(
        Source(
            of="Basic",
            select={
                "patient": "bonfire.ref_id(r.resource #>> '{subject,reference}', 'Patient')",
                "mark": "'bonfire-bench'",
                "number": "(r.resource ->> 'number')::integer",
                "text": "r.resource ->> 'filling'",
            },
        ),
    ),
    key=("patient",),
    order=(desc("number"),),
)

# What the writer does for each event; $1 number, $2 filling, $3 key. Twenty records, written again and again: the
# window stays small, and each event is one row of the size wanted.
WRITE = """
insert into public.basic as b (id, resource)
values ($3 || ($1::int % 20), jsonb_build_object('subject', jsonb_build_object('reference', 'Patient/' || $3::text),
        'number', $1::int, 'filling', $2::text))
on conflict (tenant, id) do update set resource = excluded.resource
"""


def bench_registry() -> Registry:
    registry = Registry()
    registry.live(QUERY, BENCH_ROWS, limit=WINDOW)
    return registry


def filling(row_bytes: int) -> str:
    """What makes a row's JSON as large as wanted (to a few bytes)."""
    return "x" * max(0, row_bytes - 100)
