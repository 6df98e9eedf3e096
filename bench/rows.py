"""The live query of the socket benchmarks: the notes of a patient, newest first, each as large as one likes."""

from bonfire.clinical.registry import Registry
from bonfire.store.model import ReadModel, Source, desc

QUERY = "bench.rows"
KEY = "p0"
UNHEARD = "nobody"
WINDOW = 50

RECORDS_EACH = 20
"""A patient's records are as many, and written again and again: the window stays small, and each write is one row."""

BENCH_ROWS = ReadModel(
    name="benchRows",
    columns={"patient": "text", "stamp": "text", "number": "integer", "text": "text"},
    sources=(
        Source(
            of="Basic",
            select={
                "patient": "bonfire.ref_id(r.resource #>> '{subject,reference}', 'Patient')",
                "stamp": "r.resource ->> 'stamp'",
                "number": "(r.resource ->> 'number')::integer",
                "text": "r.resource ->> 'filling'",
            },
        ),
    ),
    key=("patient",),
    order=(desc("number"),),
)

WRITE = f"""
insert into public.basic as b (id, resource)
values ($3::text || '-' || ($1::int % {RECORDS_EACH}),
        jsonb_build_object('subject', jsonb_build_object('reference', 'Patient/' || $3::text),
                           'number', $1::int, 'stamp', lpad($1::int::text, 9, '0'), 'filling', $2::text))
on conflict (tenant, id) do update set resource = excluded.resource
"""
"""Bonfire's write: a record of patient $3 with number $1 and filling $2. Triggers do all the rest."""

RIVAL_WRITE = f"""
insert into note (stamp, id, patient, number, text)
values (lpad($1::int::text, 9, '0'), $3::text || '-' || ($1::int % {RECORDS_EACH}), $3, $1::int, $2)
on conflict (id) do update set stamp = excluded.stamp, number = excluded.number, text = excluded.text
"""
"""The same into a table of a rival's own."""


def bench_registry() -> Registry:
    registry = Registry()
    registry.live(QUERY, BENCH_ROWS, limit=WINDOW)
    return registry


def filling(row_bytes: int) -> str:
    """What makes a row's JSON as large as wanted (to a few bytes)."""
    return "x" * max(0, row_bytes - 80)
