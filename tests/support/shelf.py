"""Read models of every kind and column type, for the tests of the compiler. They have nothing clinical about them."""

import json

import asyncpg

from bonfire.store.model import ReadModel, Source, asc, desc
from bonfire_protocol.values import Json

PATIENT = "bonfire.ref_id(r.resource #>> '{subject,reference}', 'Patient')"

THINGS = ReadModel(
    name="thingsByPatient",
    description="Every type of column, from two types of record.",
    columns={
        "patientId": "text",
        "title": "text",
        "at": "timestamptz",
        "day": "date",
        "count": "integer",
        "size": "numeric",
        "done": "boolean",
        "data": "jsonb",
    },
    sources=(
        Source(
            "Basic",
            where="r.resource ->> 'hidden' is null",
            select={
                "patientId": PATIENT,
                "title": "r.resource ->> 'title'",
                "at": "bonfire.instant(r.resource ->> 'at')",
                "day": "bonfire.day(r.resource ->> 'day')",
                "count": "bonfire.integer(r.resource -> 'count')",
                "size": "bonfire.number(r.resource -> 'size')",
                "done": "bonfire.flag(r.resource -> 'done')",
                "data": "r.resource -> 'data'",
            },
        ),
        Source("Flag", select={"patientId": PATIENT, "title": "r.resource ->> 'title'"}),
    ),
    key=("patientId",),
    order=(desc("at"), asc("title")),
)

NAMES = ReadModel(
    name="names",
    description="A list without a key, from one type of record.",
    columns={"title": "text"},
    sources=(Source("Basic", select={"title": "r.resource ->> 'title'"}),),
    order=(asc("title"),),
)

CARDS = ReadModel(
    name="cards",
    description="App state of one collection, under a key of two columns.",
    columns={"owner": "text", "patientId": "text", "title": "text"},
    sources=(
        Source("AppState/cards", select={"owner": "r.owner", "patientId": "r.patient", "title": "r.data ->> 'title'"}),
    ),
    key=("owner", "patientId"),
)

LATEST = ReadModel(
    name="latestThings",
    description="The newest thing of each kind of a patient.",
    columns={"patientId": "text", "kind": "text", "at": "timestamptz", "title": "text"},
    sources=(
        Source(
            "Basic",
            select={
                "patientId": PATIENT,
                "kind": "r.resource ->> 'kind'",
                "at": "bonfire.instant(r.resource ->> 'at')",
                "title": "r.resource ->> 'title'",
            },
        ),
    ),
    key=("patientId",),
    order=(asc("kind"),),
    latest_by=("patientId", "kind"),
    latest_order=(desc("at"),),
)

SHELF = (THINGS, NAMES, CARDS, LATEST)


def thing(patient: str | None, **elements: object) -> Json:
    """A record's resource."""
    return {**({} if patient is None else {"subject": {"reference": f"Patient/{patient}"}}), **elements}


async def put(conn: asyncpg.Connection, id: str, resource: Json, *, table: str = "basic", tenant: str = "t") -> None:
    """Create or replace a record, by plain SQL."""
    await conn.execute(
        f"insert into public.{table} (tenant, id, resource) values ($1, $2, $3) "
        "on conflict (tenant, id) do update set resource = excluded.resource",
        tenant,
        id,
        json.dumps(resource),
    )


async def drop(conn: asyncpg.Connection, id: str, *, table: str = "basic", tenant: str = "t") -> None:
    """Delete a record, by plain SQL."""
    await conn.execute(f"delete from public.{table} where tenant = $1 and id = $2", tenant, id)
