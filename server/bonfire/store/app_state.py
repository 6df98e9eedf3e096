"""App state: JSON documents beside the records, in collections: drafts, UI state, workflow status.

They live in the same transactions and the same live queries as the records, but keep no history: a draft that is saved
at every keystroke is one row. `conn` is a connection inside `Database.transaction`, so all happens in its tenant.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime

import asyncpg
from msgspec import Raw, Struct

from bonfire.store.statements import read_statements
from bonfire_protocol.faults import Fault, FaultCode

_STATEMENTS = read_statements("app_state")


class Document(Struct, frozen=True, rename="camel"):
    """A document. `version` counts its saves, from 1; `data` is any JSON; `owner` and `patient` are ids."""

    collection: str
    id: str
    owner: str | None
    patient: str | None
    version: int
    data: Raw
    updated_at: datetime


async def get(conn: asyncpg.Connection, collection: str, id: str) -> Document | None:
    """The document; None when there is none."""
    row = await conn.fetchrow(_STATEMENTS["get"], collection, id)
    return None if row is None else _document(row)


async def put(
    conn: asyncpg.Connection,
    collection: str,
    id: str,
    data: bytes | str,
    *,
    owner: str | None = None,
    patient: str | None = None,
    if_version: int | None = None,
) -> Document:
    """Save the document: a new one, or in place of the one there, whose owner and patient stay where none is given.

    `if_version` is the version that the caller has seen; 0 says that there was none. Fault `version_conflict` when
    another version is there, `not_found` when none is, `bad_arguments` for what is no JSON or no collection's name.
    """
    text = data if isinstance(data, str) else data.decode()
    with _document_checked():
        if if_version is None:
            row = await conn.fetchrow(_STATEMENTS["put"], collection, id, owner, patient, text)
        elif if_version == 0:
            row = await conn.fetchrow(_STATEMENTS["create"], collection, id, owner, patient, text)
        else:
            row = await conn.fetchrow(_STATEMENTS["replace"], collection, id, owner, patient, text, if_version)
    if row is None:
        raise await _refusal(conn, collection, id, if_version)
    return _document(row)


async def remove(
    conn: asyncpg.Connection, collection: str, id: str, *, if_version: int | None = None
) -> Document | None:
    """Take the document away and return it as it was; None when there was none. With `if_version`, the version that
    the caller has seen: Fault `version_conflict` or `not_found` as `put`."""
    row = await conn.fetchrow(_STATEMENTS["remove"], collection, id, if_version)
    if row is None:
        if if_version is not None:
            raise await _refusal(conn, collection, id, if_version)
        return None
    return _document(row)


async def list_(
    conn: asyncpg.Connection,
    collection: str,
    *,
    owner: str | None = None,
    patient: str | None = None,
    limit: int = 100,
) -> list[Document]:
    """The documents of a collection, the last saved first: all, or those of one owner, of one patient, or of both."""
    rows = await conn.fetch(_STATEMENTS["list"], collection, owner, patient, limit)
    return [_document(row) for row in rows]


def _document(row: asyncpg.Record) -> Document:
    return Document(
        row["collection"],
        row["id"],
        row["owner"],
        row["patient"],
        row["version"],
        Raw(row["data"].encode()),
        row["updated_at"],
    )


async def _refusal(conn: asyncpg.Connection, collection: str, id: str, if_version: int | None) -> Fault:
    version = await conn.fetchval(_STATEMENTS["version"], collection, id)
    if version is None:
        return Fault(FaultCode.not_found, "There is no document with this id.", field="id")
    return Fault(
        FaultCode.version_conflict,
        "This document was saved by somebody else.",
        field="version",
        expected=None if if_version is None else str(if_version),
        got=str(version),
    )


@contextmanager
def _document_checked() -> Iterator[None]:
    """What Postgres refuses in a document, as a fault. Postgres' own words may quote the value."""
    try:
        yield
    except asyncpg.CheckViolationError:
        raise Fault(
            FaultCode.bad_arguments,
            "This is no collection's name, or the id is empty.",
            field="collection",
            expected="a letter, then up to 62 letters, digits, '.', '_' or '-'",
        ) from None
    except asyncpg.DataError:
        raise Fault(
            FaultCode.bad_arguments,
            "The document is no JSON that Postgres can keep.",
            field="data",
            expected="JSON, its text free of NUL characters",
        ) from None
