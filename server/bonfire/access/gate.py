"""The one gate: who a caller is and what the database says of them -> what they may do, and which rows they see.

Pure, and cached: the same principal with the same facts has the same access. Cedar decides (`rights.py`).
"""

import hashlib
from typing import Literal

import msgspec

from bonfire.access.facts import Facts
from bonfire.access.policies import MASKS, PolicyBook
from bonfire.access.principal import Principal
from bonfire.access.recent import Recent
from bonfire.access.rights import Decision, FunctionKind, RecordAction, Rights, RoadAction
from bonfire.store.reach import Reach
from bonfire_protocol.faults import Fault, FaultCode

Action = Literal[
    "read",
    "create",
    "update",
    "delete",
    "sign",
    "call",
    "search",
    "subscribe",
    "upload",
    "download",
    "export",
    "sql",
    "administer",
    "breakGlass",
]
"""All that is decided, and named in the trail."""

_CALLERS = 4096

_VERBS: dict[RoadAction, str] = {
    "search": "search",
    "subscribe": "subscribe",
    "upload": "upload files",
    "export": "export",
    "sql": "run SQL",
    "administer": "administer access",
    "breakGlass": "break the glass",
}


class Denied(Fault):
    """`forbidden`, with the decision for the trail. The caller is not told why: that would tell of what is there."""

    def __init__(self, decision: Decision, message: str) -> None:
        super().__init__(FaultCode.forbidden, message, expected="what the caller's roles, relations and scopes permit")
        self.decision = decision


class Gate:
    """Makes an `Access` of a principal and facts, with the policies of `book`."""

    def __init__(self, book: PolicyBook) -> None:
        self.book = book
        self._rights: Recent[Rights] = Recent(_CALLERS)

    def access(self, principal: Principal, facts: Facts) -> "Access":
        """What this caller may do. UnknownPolicies where the book lacks the version that the facts name: load it, add
        it, ask again."""
        policies = self.book.policies(principal.tenant, facts.policies)
        # Neither the name nor the token's end is a matter of policies.
        same = msgspec.structs.replace(principal, name="", expires_at=None)
        rights = self._rights.get((policies, same, facts), lambda: Rights(policies, same, facts))
        return Access(principal, facts, rights)


class Access:
    """What one caller may do, as of the facts it was made of."""

    __slots__ = ("_rights", "facts", "principal")

    def __init__(self, principal: Principal, facts: Facts, rights: Rights) -> None:
        self.principal = principal
        self.facts = facts
        self._rights = rights

    @property
    def until(self) -> float | None:
        """When the first of the facts ends by itself, in seconds since 1970; None: none does. Whoever holds an access
        for longer reads the facts again."""
        return min((relation.until for relation in self.facts.relations if relation.until is not None), default=None)

    @property
    def reach(self) -> Reach:
        """The records that may be read in clear."""
        return self._rights.reaches[None]

    @property
    def masked(self) -> tuple[tuple[str, Reach], ...]:
        """Per mask the records that may be read with it. What `reach` fits too is read in clear."""
        reaches = self._rights.reaches
        return tuple((mask, reaches[mask]) for mask in MASKS if not reaches[mask].nothing)

    @property
    def fingerprint(self) -> str:
        """Equal for callers who may read the same with the same masks."""
        if not self.masked:
            return self.reach.fingerprint
        parts = [self.reach.fingerprint, *(f"{mask}={reach.fingerprint}" for mask, reach in self.masked)]
        return hashlib.sha256(" ".join(parts).encode()).hexdigest()[:16]

    def allows(self, action: RecordAction, resource_type: str, id: str, facets: frozenset[str]) -> Decision:
        """Whether this may be done with the record that has these facets."""
        return self._rights.record(action, f"{resource_type}/{id}", facets)

    def check(self, action: RecordAction, resource_type: str, id: str, facets: frozenset[str]) -> Decision:
        """The decision, where it is a yes. Denied (`forbidden`) where it is not."""
        return _granted(self.allows(action, resource_type, id, facets), f"you may not {action} this {resource_type}")

    def allows_call(self, function: str, kind: FunctionKind) -> Decision:
        """Whether the clinical function may be called at all. What it reads and writes is decided besides."""
        return self._rights.call(function, kind)

    def may_call(self, function: str, kind: FunctionKind) -> Decision:
        """The decision, where it is a yes. Denied where it is not."""
        return _granted(self.allows_call(function, kind), f"you may not call {function}")

    def allows_road(self, action: RoadAction, patient: str | None = None) -> Decision:
        """Whether this way may be gone at all: in the system, or (`export`, `breakGlass`) with this patient."""
        return self._rights.road(action, patient)

    def may(self, action: RoadAction, patient: str | None = None) -> Decision:
        """The decision, where it is a yes. Denied where it is not."""
        return _granted(self.allows_road(action, patient), f"you may not {_VERBS[action]}")

    def administer(self) -> Decision:
        """The decision on policies, users and the trail, where it is a yes. Denied where it is not."""
        return self.may("administer")


def _granted(decision: Decision, refusal: str) -> Decision:
    if not decision.allowed:
        raise Denied(decision, refusal)
    return decision
