"""Which live query a call is, for whom: who may see the same of it share one, and nobody else joins them.

- All rows under a key that a caller may see without exception are kept by patches: `all`, for everybody who may.
- Where some may not be seen, the query is run under the caller's reach whenever a commit touches what it reads.
- Where none may be, it is refused, whether or not there is anything.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from hashlib import sha256

from bonfire.access.gate import Access
from bonfire.access.principal import Principal
from bonfire.clinical.planning import Scope, scope
from bonfire.clinical.queries import AppCall, AppQuery, KeyedCall, KeyedQuery
from bonfire.engine.query import AppPlan, KeyedPlan, Plan, QueryIdentity
from bonfire.store.reach import EVERYTHING, Reach
from bonfire_protocol.faults import Fault, FaultCode

_UNLABELLED = frozenset({"label:", "draft:false"})
"""What most records have: for the trail, which names the policies that let such a record be seen."""


@dataclass(frozen=True)
class KeyedHandle:
    """What it takes to read a keyed query that is kept by patches: its rows may all be seen."""

    query: KeyedQuery
    call: KeyedCall


@dataclass(frozen=True)
class BoundHandle:
    """What it takes to read a keyed query's rows under a reach."""

    query: KeyedQuery
    call: KeyedCall
    reach: Reach


@dataclass(frozen=True)
class AppHandle:
    """What it takes to run an app query for its live query: any caller that may see the result will do."""

    query: AppQuery
    call: AppCall
    principal: Principal
    reach: Reach


Handle = KeyedHandle | BoundHandle | AppHandle


def plan(query: KeyedQuery | AppQuery, args: bytes, access: Access) -> tuple[QueryIdentity, Plan]:
    """The live query that this call is, for this caller. Faults: `bad_arguments` names the field; `forbidden`."""
    match query:
        case KeyedQuery():
            return _keyed(query, query.resolve(args, access.principal), access)
        case AppQuery():
            return _app(query, query.resolve(args, access.principal), access)


def plan_again(handle: Handle, access: Access) -> tuple[QueryIdentity, Plan]:
    """The live query that the same call is for what its caller may see now."""
    match handle:
        case AppHandle(query, call):
            return _app(query, call, access)
        case KeyedHandle(query, call) | BoundHandle(query, call):
            return _keyed(query, call, access)


def about(handle: Handle) -> str | None:
    """The one patient that it is about; None where it is about several, or none."""
    return scope(handle.call).patient


def reasons(handle: Handle, access: Access) -> tuple[str, ...]:
    """The policies by which the caller may subscribe to it, for the trail."""
    found = dict.fromkeys(access.allows_call(handle.query.name, "query").policies)
    for known in scope(handle.call).known:
        kind = next((word.removeprefix("type:") for word in known if word.startswith("type:")), "")
        found.update(dict.fromkeys(access.allows("read", kind, "any", known | _UNLABELLED).policies))
    return tuple(found)


def _keyed(query: KeyedQuery, call: KeyedCall, access: Access) -> tuple[QueryIdentity, Plan]:
    read = _permitted(query, access, scope(call))
    left = [read.reach.within(known) for known in read.scope.known]
    if all(reach.everything for reach in left):
        order = tuple((term.column, term.descending) for term in call.model.order)
        identity = QueryIdentity(access.principal.tenant, query.name, call.canonical, EVERYTHING.fingerprint)
        handle = KeyedHandle(query, call)
        return identity, KeyedPlan(call.model.name, call.key, call.limit, order, handle, query.urgent)
    identity = QueryIdentity(access.principal.tenant, query.name, call.canonical, _joined(left))
    dependencies = tuple((source.of, read.scope.patient) for source in call.model.sources)
    return identity, AppPlan(
        dependencies,
        "list",
        True,
        BoundHandle(query, call, read.reach),
        query.urgent,
        view=call.model.name,
        limit=call.limit,
    )


def _app(query: AppQuery, call: AppCall, access: Access) -> tuple[QueryIdentity, Plan]:
    read = _permitted(query, access, scope(call))
    identity = QueryIdentity(access.principal.tenant, query.name, call.canonical, read.reach.fingerprint)
    identified = call.shape == "list" and call.identity is not None
    handle = AppHandle(query, call, access.principal, read.reach)
    return identity, AppPlan(call.dependencies, call.shape, identified, handle, query.urgent)


@dataclass(frozen=True)
class _Read:
    scope: Scope
    reach: Reach


def _permitted(query: KeyedQuery | AppQuery, access: Access, read: Scope) -> _Read:
    """What is read, and under which reach. Fault `forbidden` where it may not be called, or may show nothing."""
    access.may_call(query.name, "query")
    reach = read.reach(access)
    if reach.nothing and read.known:
        raise Fault(FaultCode.forbidden, "you may see nothing of what this query shows")
    return _Read(read, reach)


def _joined(reaches: Iterable[Reach]) -> str:
    return sha256(" ".join(reach.fingerprint for reach in reaches).encode()).hexdigest()[:16]
