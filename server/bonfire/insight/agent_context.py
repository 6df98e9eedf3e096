"""The agentContext index: one document a patient, rebuilt by its lane after each write that touches the patient."""

from collections.abc import Iterable, Sequence
from datetime import datetime

import asyncpg
import msgspec
from msgspec import Struct

from bonfire.clinical.fhir_json import parse
from bonfire.insight.agent_document import AgentDocument, ChartRow, build_document
from bonfire.lane.handler import Write
from bonfire.store.pool import Database
from bonfire.store.reach import PATIENT, Clause, Reach

LISTED = 100
RECENT = 5

_CHART = """
select section, resource_type, id, txid, resource, total, medication,
  bonfire.facets(resource_type, id, resource) as facets
from bonfire.chart($1, $2, $3)
"""

_SIGNED = Reach.of([Clause(without=frozenset(["draft:true"]))])
"""A model is told no draft: what its author has not signed yet is not so."""

_encoder = msgspec.json.Encoder(decimal_format="number")


class AgentContext(Struct, frozen=True, rename="camel"):
    """A patient's document. `version` counts its changes; `txid` is the newest version id among its records; every
    transaction below `complete_to` is in it."""

    patient: str
    version: int
    document: AgentDocument
    txid: int
    complete_to: int
    built_at: datetime


async def read_agent_context(conn: asyncpg.Connection, patient: str) -> AgentContext | None:
    """The context of a patient of this tenant. None: there is no such patient, or the lane has not come to it yet."""
    row = await conn.fetchrow(
        "select patient, version, document, txid, complete_to::text::bigint as complete_to, built_at"
        " from bonfire.agent_context where tenant = bonfire.current_tenant() and patient = $1",
        patient,
    )
    if row is None:
        return None
    document = msgspec.json.decode(row["document"], type=AgentDocument)
    return AgentContext(**{**dict(row), "document": document})


async def forget(conn: asyncpg.Connection) -> None:
    """No document is left, of any tenant. `conn`: the owner's."""
    await conn.execute("delete from bonfire.agent_context")


class AgentContextIndex:
    """The lane's handler."""

    # What `bonfire.chart` reads: a write to anything else changes no document.
    sources = (
        "Patient",
        "Condition",
        "MedicationRequest",
        "MedicationStatement",
        "AllergyIntolerance",
        "Observation",
        "Encounter",
        "DocumentReference",
    )
    # Another number for documents of another shape: all are made afresh.
    build = "2"

    async def begin(self, conn: asyncpg.Connection) -> None:
        await forget(conn)

    async def patients(self, conn: asyncpg.Connection) -> Sequence[str]:
        rows = await conn.fetch("select id from public.patient union select patient from bonfire.agent_context")
        return [row["id"] for row in rows]

    async def prepare(self, database: Database, tenant: str, patient: str) -> Write:
        # One snapshot for both: what is said to be in the document must be what was read.
        async with database.transaction(tenant, reach=_SIGNED, isolation="repeatable_read", readonly=True) as conn:
            found = await conn.fetch(_CHART, patient, LISTED, RECENT)
            complete_to = await conn.fetchval("select pg_snapshot_xmin(pg_current_snapshot())::text")
        rows = [_chart_row(row) for row in found]
        document = build_document(rows)
        if document is None:
            return lambda conn: _remove(conn, patient)
        text = _encoder.encode(document).decode()
        newest = max(row.version for row in rows)
        facets = _facets(patient, [word for row in found for word in row["facets"]])
        return lambda conn: _put(conn, patient, text, facets, newest, complete_to)


def _chart_row(row: asyncpg.Record) -> ChartRow:
    return ChartRow(
        row["section"],
        row["resource_type"],
        row["id"],
        row["txid"],
        parse(row["resource"]),
        row["total"],
        parse(row["medication"]) if row["medication"] is not None else None,
    )


def _facets(patient: str, words: Iterable[str]) -> list[str]:
    """What may be asked of a document (docs/access.md): it has the labels of all records that it was made from, so that
    whoever may not see one of these does not see the document."""
    labels = sorted({word for word in words if word.startswith("label:")} - {"label:"})
    return ["type:AgentContext", PATIENT + patient, "draft:false", *(labels or ["label:"])]


async def _put(
    conn: asyncpg.Connection, patient: str, document: str, facets: Sequence[str], txid: int, complete_to: str
) -> None:
    await conn.execute(
        """insert into bonfire.agent_context as c (patient, document, facets, txid, complete_to, built_at)
           values ($1, $2, $3, $4, ($5::text)::xid8, now())
           on conflict (tenant, patient) do update set
             version = c.version + (c.document is distinct from excluded.document)::int, document = excluded.document,
             facets = excluded.facets, txid = excluded.txid, complete_to = excluded.complete_to,
             built_at = excluded.built_at""",
        patient,
        document,
        facets,
        txid,
        complete_to,
    )


async def _remove(conn: asyncpg.Connection, patient: str) -> None:
    await conn.execute(
        "delete from bonfire.agent_context where tenant = bonfire.current_tenant() and patient = $1", patient
    )
