"""The semanticSearch index: notes in chunks with their embeddings, searched by cosine distance.

Search is exact: it compares with every chunk of the tenant, or of the patient. An approximate index over all tenants
would look at its nearest candidates first and drop those of other tenants afterwards: the smaller a tenant, the
more it would miss.
"""

from collections.abc import Sequence
from pathlib import Path

import asyncpg
from msgspec import Struct

from bonfire.clinical.fhir_json import parse
from bonfire.insight.chunks import chunks
from bonfire.insight.embeddings import Embedder, Vector
from bonfire.insight.fhir_read import document_title, plain_text
from bonfire.lane.handler import Write
from bonfire.store.identifiers import quote_identifier
from bonfire.store.pool import Database
from bonfire.store.reach import EVERYTHING
from bonfire.store.statements import fill, read_statements

_FOLDER = Path(__file__).with_name("sql")


class Unavailable(Exception):
    """The index can't be kept in this database; the message says why and what to do."""


class Hit(Struct, frozen=True, rename="camel"):
    """A piece of a note: `text` stands in version `version` of DocumentReference `note`. `distance` is 0 for the
    same direction, 1 for none in common, 2 for the opposite."""

    patient: str
    note: str
    version: int
    text: str
    distance: float


class _Chunk(Struct, frozen=True):
    note: str
    version: int
    number: int
    text: str


class SemanticSearchIndex:
    """The lane's handler, and the search. `schema` is the one that the extension `vector` lives in."""

    sources = ("DocumentReference",)

    def __init__(self, embedder: Embedder, schema: str) -> None:
        self._embedder = embedder
        self._schema = schema = quote_identifier(schema)
        statements = read_statements("semantic_search", _FOLDER)
        self._search_all = fill(statements["search_all"], schema=schema)
        self._search_one = fill(statements["search_one"], schema=schema)
        self._insert = fill(statements["insert_chunks"], schema=schema)

    @property
    def build(self) -> str:
        return f"{self._embedder.name} {self._embedder.dimensions}"

    async def begin(self, conn: asyncpg.Connection) -> None:
        await forget(conn)
        await conn.execute(
            f"""create table bonfire.note_chunk (
                  tenant text not null default bonfire.current_tenant(),
                  patient text not null,
                  note text not null,
                  version bigint not null,
                  number integer not null,
                  text text not null,
                  embedding {self._schema}.vector({self._embedder.dimensions:d}) not null,
                  primary key (tenant, note, number)
                );
                create index note_chunk_patient on bonfire.note_chunk (tenant, patient);
                alter table bonfire.note_chunk enable row level security;
                -- Whoever sees the note sees its pieces: the notes' own policy is asked, of each as it is now.
                create policy tenant on bonfire.note_chunk
                using (
                  tenant = bonfire.current_tenant() and (bonfire.sees_all() or exists (
                    select from public.documentreference d where d.tenant = bonfire.current_tenant() and d.id = note
                  ))
                )
                with check (tenant = bonfire.current_tenant());
                grant usage on schema {self._schema} to bonfire_app;
                grant select, insert, update, delete on bonfire.note_chunk to bonfire_app"""
        )

    async def search(
        self, conn: asyncpg.Connection, text: str, *, patient: str | None = None, limit: int = 10
    ) -> list[Hit]:
        """The `limit` pieces nearest to `text` in meaning, of one patient or of all, the nearest first.

        `conn` is in a tenant's transaction. ProviderError when the provider gives no embedding of `text`.
        """
        [vector] = await self._embedder.embed([text])
        if patient is None:
            rows = await conn.fetch(self._search_all, _spell(vector), limit)
        else:
            rows = await conn.fetch(self._search_one, _spell(vector), limit, patient)
        return [Hit(*row) for row in rows]

    async def patients(self, conn: asyncpg.Connection) -> Sequence[str]:
        rows = await conn.fetch("select id from public.patient union select patient from bonfire.note_chunk")
        return [row["id"] for row in rows]

    async def prepare(self, database: Database, tenant: str, patient: str) -> Write:
        async with database.transaction(tenant, reach=EVERYTHING, isolation="repeatable_read", readonly=True) as conn:
            documents = await conn.fetch("select id, txid, resource from bonfire.patient_documents($1)", patient)
            kept = dict(
                await conn.fetch("select distinct note, version from bonfire.note_chunk where patient = $1", patient)
            )
        changed = [row for row in documents if kept.get(row["id"]) != row["txid"]]
        gone = kept.keys() - {row["id"] for row in documents}
        pieces = [piece for row in changed for piece in _chunks(row)]
        vectors = await self._embedder.embed([piece.text for piece in pieces])

        async def write(conn: asyncpg.Connection) -> None:
            await conn.execute(
                "delete from bonfire.note_chunk where tenant = bonfire.current_tenant() and note = any ($1)",
                [*gone, *(row["id"] for row in changed)],
            )
            await conn.execute(
                self._insert,
                patient,
                [piece.note for piece in pieces],
                [piece.version for piece in pieces],
                [piece.number for piece in pieces],
                [piece.text for piece in pieces],
                [_spell(vector) for vector in vectors],
            )

        return write


async def find_vectors(conn: asyncpg.Connection) -> str:
    """The schema of the extension `vector`, made if need be. `conn`: the owner's, in no transaction. Unavailable says
    why there is none."""
    try:
        await conn.execute("create extension if not exists vector")
    except asyncpg.PostgresError as error:
        raise Unavailable(
            f"Postgres' extension `vector` can't be created ({error.sqlstate}): install pgvector on the server,"
            " and let an administrator run CREATE EXTENSION vector in this database"
        ) from error
    schema: str = await conn.fetchval(
        "select n.nspname from pg_extension e join pg_namespace n on n.oid = e.extnamespace where e.extname = 'vector'"
    )
    return schema


async def forget(conn: asyncpg.Connection) -> None:
    """Nothing of the notes is left here. `conn`: the owner's."""
    await conn.execute("drop table if exists bonfire.note_chunk")


def _chunks(row: asyncpg.Record) -> list[_Chunk]:
    resource = parse(row["resource"])
    title = document_title(resource)
    # The title goes with each piece: a piece of a note often does not say what it is about.
    return [
        _Chunk(row["id"], row["txid"], number, f"{title}\n{text}")
        for number, text in enumerate(chunks(plain_text(resource)))
    ]


def _spell(vector: Vector) -> str:
    return "[" + ",".join(map(repr, vector)) + "]"
