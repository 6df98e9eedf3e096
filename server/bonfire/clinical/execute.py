"""Running functions: a mutation exactly once, a query once.

A mutation is one transaction: its id is claimed, the function runs, its answer is kept beside what it wrote, COMMIT. So
whatever happens to a connection, the id tells afterwards whether it was done: it is never done twice, and nothing
is called committed that is not.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field
from datetime import datetime
from hashlib import sha256
from random import Random

import asyncpg
import msgspec
from msgspec import Struct

from bonfire.access.principal import Principal
from bonfire.clinical.contexts import MutationContext
from bonfire.clinical.errors import AGAIN, TOO_LONG, failure
from bonfire.clinical.queries import KeyedQuery
from bonfire.clinical.registry import Registry
from bonfire.clinical.stated import Stated, check_version
from bonfire.lane.queue import progress
from bonfire.lane.retry import RetryPolicy, full_jitter
from bonfire.store import mutations
from bonfire.store.pool import Database
from bonfire.store.reach import EVERYTHING
from bonfire.telemetry.tracing import MutationTrace
from bonfire_protocol.faults import Fault, FaultCode


class Outcome(Struct, frozen=True):
    """A committed mutation. `xid` is its full transaction id; `value` its result's JSON; `views` the read models that
    it touched; `indexes` how far each index is. `replayed`: it was done before, and this is the first answer."""

    xid: int
    value: bytes
    views: tuple[str, ...]
    indexes: dict[str, str]
    replayed: bool


@dataclass(frozen=True)
class Retrying:
    """How often a transaction that met another one, or lost its connection, is run again, and how soon."""

    policy: RetryPolicy = field(default_factory=lambda: RetryPolicy(base=0.02, cap=1.0, max_attempts=6))
    random: Random = field(default_factory=Random)
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep


@dataclass(frozen=True)
class _Call:
    """A mutate frame, whose it is, and what stands for both in the store."""

    principal: Principal
    id: str
    mutation: str
    args: bytes
    patient: str | None
    version: int | None
    digest: bytes


class _Committing:
    """Whether the transaction has been told to commit: from then on, a cut leaves its fate unknown."""

    begun = False


_UNTRACED = nullcontext()


async def mutate(
    database: Database,
    registry: Registry,
    principal: Principal,
    *,
    id: str,
    mutation: str,
    args: bytes,
    patient: str | None,
    version: str | None,
    clock: Callable[[], datetime],
    new_id: Callable[[], str],
    indexes: Mapping[str, str],
    retrying: Retrying | None = None,
    max_value_bytes: int = 1 << 20,
    trace: MutationTrace | None = None,
) -> Outcome:
    """Runs `mutation` for `principal`, exactly once for `id`; answers only what has committed.

    `args` is JSON; `patient` and `version` are what the caller had on the screen. `clock` gives the time with its zone;
    `indexes` says of each index whether it is "off". A transaction that met another one or lost its connection
    is run again, a few times; after a cut in the middle of the commit, that finds out what became of it. `trace` is
    told of each attempt.

    Faults: those of the function, all rolled back; bad_arguments, unknown_function, mutation_id_reused,
    version_conflict, wrong_patient; too_large for a result over `max_value_bytes`; internal when the function fails;
    busy or unavailable when it may be sent again, with the same id.
    """
    if "\0" in id:
        raise Fault(FaultCode.bad_arguments, "an id can't hold the character U+0000", field="id")
    call = _Call(
        principal, id, mutation, args, patient, _version(version), _digest(principal, mutation, args, patient, version)
    )
    retrying = retrying or Retrying()
    committing = _Committing()
    attempts = 0
    while True:
        attempts += 1
        exhausted = retrying.policy.exhausted(attempts)
        try:
            with _UNTRACED if trace is None else trace.transaction(attempts):
                return await _attempt(
                    database, registry, call, clock, new_id, indexes, max_value_bytes, committing, trace
                )
        except Fault as fault:
            if fault.code is not FaultCode.unavailable:
                raise
            if exhausted:
                raise _unknown_fate() if committing.begun else fault from None
        except AGAIN:
            if exhausted:
                raise Fault(FaultCode.busy, "others write to the same records just now: send it again") from None
        except TOO_LONG:
            raise Fault(FaultCode.busy, "the database took longer than it may; nothing was written") from None
        except Exception as error:
            raise failure(FaultCode.internal, mutation, error) from None
        policy = retrying.policy
        await retrying.sleep(full_jitter(attempts, policy.base, policy.cap, retrying.random))


async def query_once(
    database: Database, registry: Registry, principal: Principal, name: str, args: bytes, now: datetime
) -> bytes:
    """The JSON of a query's result, read once: a list, or the one value. Faults as the query's own."""
    query = registry.find_query(name)
    async with database.transaction(
        principal.tenant, reach=EVERYTHING, isolation="repeatable_read", readonly=True
    ) as conn:
        if isinstance(query, KeyedQuery):
            return _json_list(await query.run(conn, principal, now, query.resolve(args, principal)))
        call = query.resolve(args, principal)
        rows = await query.run(conn, principal, now, call)
    return rows[0] if call.shape == "one" else _json_list(rows)


async def _attempt(
    database: Database,
    registry: Registry,
    call: _Call,
    clock: Callable[[], datetime],
    new_id: Callable[[], str],
    indexes: Mapping[str, str],
    max_value_bytes: int,
    committing: _Committing,
    trace: MutationTrace | None,
) -> Outcome:
    async with database.transaction(call.principal.tenant, reach=EVERYTHING) as conn:
        stored = await mutations.begin(conn, call.id, call.digest)
        if stored is not None:
            return await _replayed(conn, call.id, stored, indexes)
        # Only now: what was done under this id is answered for even where the function has changed or gone since.
        function = registry.find_mutation(call.mutation)
        arguments = function.resolve(call.args)
        if call.version is not None and function.subject is None:
            raise Fault(
                FaultCode.bad_arguments,
                f"{call.mutation} is about no one record, so no version of it can be stated",
                field="version",
                expected="no version",
            )
        stated = Stated(call.patient, call.version, function.subject.of(arguments) if function.subject else None)
        await check_version(conn, stated)
        value = await function.run(
            MutationContext(conn, call.principal, clock(), new_id=new_id, stated=stated), arguments
        )
        if len(value) > max_value_bytes:
            raise Fault(
                FaultCode.too_large,
                f"the result of {call.mutation} is too large: nothing was written",
                expected=f"at most {max_value_bytes} bytes",
                got=f"{len(value)} bytes",
            )
        finished = await mutations.finish(conn, call.id, call.digest, value)
        committing.begun = True
        if trace is not None:
            trace.committing(finished.xid)
    states = {name: "pending" if name in finished.pending else "fresh" for name in indexes}
    return Outcome(finished.xid, value, finished.views, _with_off(states, indexes), replayed=False)


async def _replayed(conn: asyncpg.Connection, id: str, stored: mutations.Stored, indexes: Mapping[str, str]) -> Outcome:
    # The first answer said "pending"; its indexes may have caught up since, and nobody will say so again.
    states = dict.fromkeys(indexes, "fresh")
    if stored.finished.pending:
        states.update(await progress(conn, id))
    finished = stored.finished
    return Outcome(finished.xid, stored.answer, finished.views, _with_off(states, indexes), replayed=True)


def _with_off(states: Mapping[str, str], indexes: Mapping[str, str]) -> dict[str, str]:
    return {name: "off" if state == "off" else states[name] for name, state in indexes.items()}


def _version(version: str | None) -> int | None:
    if version is None:
        return None
    if not (version.isascii() and version.isdigit() and len(version) <= 18):
        raise Fault(
            FaultCode.bad_arguments,
            "this is no version of a record",
            field="version",
            expected="a version id, as its record says it: a whole number as text",
            got="other text",
        )
    return int(version)


def _digest(principal: Principal, mutation: str, args: bytes, patient: str | None, version: str | None) -> bytes:
    """Stands for who asked for what. Arguments as they were sent, however spelled: not as a function of today fills
    them in, so that a deploy between a call and its repetition changes nothing."""
    try:
        sent = msgspec.json.decode(args)
    except (ValueError, RecursionError):
        raise Fault(FaultCode.bad_arguments, "the arguments are no JSON", expected="a JSON object") from None
    asked = [principal.user, mutation, patient, version, sent]
    return sha256(msgspec.json.encode(asked, order="sorted")).digest()


def _unknown_fate() -> Fault:
    return Fault(
        FaultCode.unavailable,
        "the database was lost at the commit: send it again with the same id to learn whether it was done",
    )


def _json_list(rows: list[bytes]) -> bytes:
    return b"[" + b",".join(rows) + b"]"
