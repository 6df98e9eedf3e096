"""Mutations, exactly once: the answer is kept in the transaction that did the work, under the id that the client made.

Whoever sends the same id again gets the first answer; who does so while the first is still at work waits for it, on
whatever node. `conn` is a connection inside `Database.transaction`.
"""

from datetime import timedelta

import asyncpg
from msgspec import Struct

from bonfire.store.statements import read_statements
from bonfire_protocol.faults import Fault, FaultCode

_STATEMENTS = read_statements("mutations")


class Finished(Struct, frozen=True):
    """What a mutation's transaction did: its full 64-bit id, the read models that it touched, and the indexes that it
    left pending."""

    xid: int
    views: tuple[str, ...]
    pending: tuple[str, ...]


class Stored(Struct, frozen=True):
    """The first answer of a mutation that was done before."""

    answer: bytes
    finished: Finished


class Begun(Struct, frozen=True):
    """`facts`: what the database says of the caller, as `bonfire.access_facts` spells it; `facts_behind` of the person
    for whom the caller acts, None where there is none. `stored`: the first answer, where the mutation was done before:
    then nothing may be done again."""

    facts: str
    facts_behind: str | None
    stored: Stored | None


async def begin(
    conn: asyncpg.Connection, mutation_id: str, digest: bytes, user: str, behalf_of: str | None = None
) -> Begun:
    """The first statement of a mutation's transaction: wait for anybody who does the same one. Where it was not done
    before, go on, and call `finish`.

    `digest` stands for the function and its arguments, `user` is who asks, for `behalf_of`. Fault
    `mutation_id_reused` when the id was used for others.
    """
    row = await conn.fetchrow(_STATEMENTS["begin"], mutation_id, digest, user, behalf_of)
    if row["same"] is None:
        return Begun(row["facts"], row["facts_behind"], None)
    if not row["same"]:
        raise Fault(
            FaultCode.mutation_id_reused,
            "This id was used for another mutation.",
            field="id",
            expected="a new id for each mutation",
        )
    return Begun(row["facts"], row["facts_behind"], Stored(row["answer"], _finished(row)))


async def finish(conn: asyncpg.Connection, mutation_id: str, digest: bytes, answer: bytes) -> Finished:
    """The last statement of a mutation's transaction: keep the answer, and tell the live engine whose this was.

    asyncpg.SerializationError when the same mutation was done meanwhile, which only a transaction of repeatable
    reads can meet: run it again, and `begin` returns that answer.
    """
    return _finished(await conn.fetchrow(_STATEMENTS["finish"], mutation_id, digest, answer))


async def prune(conn: asyncpg.Connection, older_than: timedelta) -> int:
    """Housekeeping, on a connection from `Database.owner`: forget answers older than this; returns how many."""
    pruned: int = await conn.fetchval(_STATEMENTS["prune"], older_than)
    return pruned


def _finished(row: asyncpg.Record) -> Finished:
    return Finished(row["xid"], tuple(row["views"]), tuple(row["pending"]))
