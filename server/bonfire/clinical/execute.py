"""Running functions: a mutation exactly once, a query once.

A mutation is one transaction: its id is claimed, the function runs, its answer is kept beside what it wrote, COMMIT. So
whatever happens to a connection, the id tells afterwards whether it was done: it is never done twice, and nothing
is called committed that is not. The caller's rights are those of the transaction: what the database says of the caller
is read by the statement that claims the id.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import dataclass, field
from datetime import datetime
from functools import lru_cache
from hashlib import sha256
from random import Random
from typing import assert_never

import asyncpg
import msgspec
from msgspec import Struct, structs

from bonfire.access import audit, provenance
from bonfire.access.audit import Event, Surface, Trail, event_of
from bonfire.access.facts import Facts
from bonfire.access.gate import Access, Denied
from bonfire.access.principal import Principal
from bonfire.clinical.contexts import MutationContext
from bonfire.clinical.errors import AGAIN, TOO_LONG, failure
from bonfire.clinical.planning import scope
from bonfire.clinical.queries import AppCall, AppQuery, KeyedCall, KeyedQuery
from bonfire.clinical.registry import Registry
from bonfire.clinical.stated import Stated, check_version
from bonfire.lane.queue import progress
from bonfire.lane.retry import RetryPolicy, full_jitter
from bonfire.store import mutations
from bonfire.store.pool import Database
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


Regate = Callable[[Facts], Awaitable[Access]]
"""The caller's access once the database says something else of them: it may have to load the tenant's policies."""

REGATES = 5
"""How often a mutation is begun afresh because its caller's facts have changed."""


@dataclass(frozen=True)
class _Call:
    """A mutate frame, whose it is, and what stands for both in the store."""

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
    access: Access,
    regate: Regate,
    trail: Trail,
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
    surface: Surface = "socket",
    address: str | None = None,
) -> Outcome:
    """Runs `mutation` for the caller whom `access` is of, exactly once for `id`; answers only what has committed.

    Where the database says something else of the caller than `access` was made of, `regate` makes the access that
    counts, and the mutation is begun again. `trail` is told of refusals; of what is written the transaction itself
    tells it, and writes its provenance. `surface` and `address` are where the caller came from.

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
    principal = access.principal
    digest = _digest(principal, mutation, args, patient, version)
    call = _Call(id, mutation, args, patient, _version(version), digest)
    retrying = retrying or Retrying()
    committing = _Committing()
    attempts = regates = 0
    while True:
        attempts += 1
        exhausted = retrying.policy.exhausted(attempts)
        try:
            with _UNTRACED if trace is None else trace.transaction(attempts):
                return await _attempt(
                    database,
                    registry,
                    access,
                    call,
                    clock,
                    new_id,
                    indexes,
                    max_value_bytes,
                    committing,
                    trace,
                    surface,
                    address,
                )
        except _FactsChanged as changed:
            regates += 1
            if regates > REGATES:
                raise Fault(FaultCode.busy, "your rights change faster than this can be done: send it again") from None
            access = await regate(changed.facts)
            attempts -= 1
            continue
        except Fault as fault:
            if fault.code in _TRIED:
                trail.later(_denied(access.principal, call, fault, surface, address))
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
    database: Database, registry: Registry, access: Access, name: str, args: bytes, now: datetime
) -> bytes:
    """The JSON of a query's result, read once, under the caller's reach: a list, or the one value.

    Faults as the query's own; forbidden where the caller may not call it, or may see nothing of what it shows.
    """
    query = registry.find_query(name)
    principal = access.principal
    access.may_call(name, "query")
    match query:
        case KeyedQuery():
            keyed = query.resolve(args, principal)
            async with _reading(database, access, keyed) as conn:
                return _json_list(await query.run(conn, principal, now, keyed))
        case AppQuery():
            call = query.resolve(args, principal)
            async with _reading(database, access, call) as conn:
                rows = await query.run(conn, principal, now, call)
            return rows[0] if call.shape == "one" else _json_list(rows)
        case _:
            assert_never(query)


def _reading(
    database: Database, access: Access, call: KeyedCall | AppCall
) -> AbstractAsyncContextManager[asyncpg.Connection]:
    reach = scope(call).reach(access)
    return database.transaction(access.principal.tenant, reach=reach, isolation="repeatable_read", readonly=True)


async def _attempt(
    database: Database,
    registry: Registry,
    access: Access,
    call: _Call,
    clock: Callable[[], datetime],
    new_id: Callable[[], str],
    indexes: Mapping[str, str],
    max_value_bytes: int,
    committing: _Committing,
    trace: MutationTrace | None,
    surface: Surface,
    address: str | None,
) -> Outcome:
    async with database.transaction(access.principal.tenant, reach=access.reach) as conn:
        begun = await mutations.begin(conn, call.id, call.digest, access.principal.user, access.principal.behalf_of)
        facts = _facts(begun.facts)
        if begun.facts_behind is not None:
            facts = facts.bounded_by(_facts(begun.facts_behind))
        if facts != access.facts:
            raise _FactsChanged(facts)
        decision = access.may_call(call.mutation, "mutation")
        if begun.stored is not None:
            return await _replayed(conn, call.id, begun.stored, indexes)
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
        ctx = MutationContext(conn, access, clock(), new_id=new_id, stated=stated)
        value = await function.run(ctx, arguments)
        if len(value) > max_value_bytes:
            raise Fault(
                FaultCode.too_large,
                f"the result of {call.mutation} is too large: nothing was written",
                expected=f"at most {max_value_bytes} bytes",
                got=f"{len(value)} bytes",
            )
        await provenance.record(
            conn, provenance.provenances(access.principal, ctx.acts, ctx.now, call.mutation), new_id
        )
        await audit.write(conn, _events(ctx, call, decision.policies, surface, address))
        finished = await mutations.finish(conn, call.id, call.digest, value)
        committing.begun = True
        if trace is not None:
            trace.committing(finished.xid)
    states = {name: "pending" if name in finished.pending else "fresh" for name in indexes}
    return Outcome(finished.xid, value, finished.views, _with_off(states, indexes), replayed=False)


class _FactsChanged(Exception):
    """The database says something else of the caller than the access was made of: make a new one, and begin again."""

    def __init__(self, facts: Facts) -> None:
        self.facts = facts


@lru_cache(maxsize=4096)
def _facts(spelled: str) -> Facts:
    return msgspec.json.decode(spelled, type=Facts)


def _events(
    ctx: MutationContext, call: _Call, called: tuple[str, ...], surface: Surface, address: str | None
) -> list[Event]:
    """What the trail is told: each record and document that was written, and what the function itself has to say."""
    principal = ctx.access.principal

    def event(subtype: audit.Subtype, patient: str | None, what: str, policies: tuple[str, ...]) -> Event:
        return event_of(
            principal,
            subtype,
            surface,
            patient=patient,
            what=what,
            query=call.mutation,
            policies=tuple(dict.fromkeys((*called, *policies))),
            address=address,
            request=call.id,
        )

    events = [
        event(
            "sign" if act.decided.signs else act.decided.done, act.decided.patient, act.reference, act.decided.policies
        )
        for act in ctx.acts
    ]
    events += [event(kept.done, kept.patient, kept.what, kept.policies) for kept in ctx.kept]
    events += [
        structs.replace(
            event(told.subtype, told.patient, told.what, told.policies), reason=told.reason, detail=dict(told.detail)
        )
        for told in ctx.told
    ]
    return events


_TRIED = (FaultCode.forbidden, FaultCode.not_found)
"""What is hidden is answered as what is not there: who tries ids leaves a trace of either."""


def _denied(principal: Principal, call: _Call, fault: Fault, surface: Surface, address: str | None) -> Event:
    return event_of(
        principal,
        "deny",
        surface,
        patient=call.patient,
        query=call.mutation[:128],
        policies=fault.decision.policies if isinstance(fault, Denied) else (),
        outcome=4,
        address=address,
        request=call.id,
    )


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
