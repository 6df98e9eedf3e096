"""What one caller may do by one set of policies: Cedar's answers, asked for once each.

Whatever goes wrong on the way (a name that Cedar refuses, a policy that fails on what it is asked) is a no.
"""

from collections.abc import Mapping
from functools import cached_property
from typing import Any, Literal

import cedarpy
from msgspec import Struct

from bonfire.access.compile import Residual, compile_residual, reach_of
from bonfire.access.entities import SYSTEM, function_entity, record_entity, spelled, uid_text, user_entity
from bonfire.access.facts import Facts
from bonfire.access.policies import MASKS, Policies, schema
from bonfire.access.principal import Principal
from bonfire.access.recent import Recent
from bonfire.access.scopes import Bound
from bonfire.store.reach import NOTHING, Reach

RecordAction = Literal["read", "create", "update", "delete", "sign", "download"]
RoadAction = Literal["search", "subscribe", "upload", "export", "sql", "administer", "breakGlass"]
FunctionKind = Literal["query", "mutation"]

_DECISIONS = 512
# The same for all records with the same facets, where no policy names one.
_ANY_RECORD = "any"


class Decision(Struct, frozen=True):
    """`policies`: the ids of those that decided; of a denial those that forbid, none where nothing permits.
    `beyond_scopes`: the policies permit it, but not the token's scopes. `mask`: it may not be read in clear, but with
    this mask, by a road that can mask."""

    allowed: bool
    policies: tuple[str, ...] = ()
    beyond_scopes: bool = False
    mask: str | None = None


class Rights:
    """One caller's, by `policies`, as of `facts`."""

    def __init__(self, policies: Policies, principal: Principal, facts: Facts) -> None:
        self._policies = policies
        self._user = principal.user
        self._roles = principal.roles
        self._bound = Bound(principal)
        self._entities = cedarpy.Entities.from_json_str(spelled([user_entity(principal, facts)]), schema())
        self._decisions: Recent[Decision] = Recent(_DECISIONS)

    @cached_property
    def reaches(self) -> Mapping[str | None, Reach]:
        """Per mask, and for None in clear: the records that may be read."""
        residuals = self._residuals("read")
        return {
            mask: NOTHING if residuals is None else self._bound.cut(reach_of(residuals, mask))
            for mask in (None, *MASKS)
        }

    def record(self, action: RecordAction, uid: str, facets: frozenset[str]) -> Decision:
        """Whether this may be done with the record `Type/id` that has these facets."""
        id = uid if self._policies.names_records else _ANY_RECORD
        return self._decisions.get((action, id, facets), lambda: self._decide_record(action, id, facets))

    def call(self, name: str, kind: FunctionKind) -> Decision:
        """Whether the clinical function may be called at all."""
        function = function_entity(name, kind)
        return self._decisions.get(("call", name, kind), lambda: self._decide_road("call", function["uid"], function))

    def road(self, action: RoadAction, patient: str | None) -> Decision:
        """Whether this may be done in the system, or with this patient."""
        resource = SYSTEM if patient is None else {"type": "Patient", "id": patient}
        return self._decisions.get((action, patient), lambda: self._decide_road(action, resource))

    def _decide_record(self, action: RecordAction, id: str, facets: frozenset[str]) -> Decision:
        record = record_entity(id, facets)
        decision = self._decide(action, record["uid"], record)
        if (decision.allowed or decision.mask is not None) and not self._bound.allows(action, facets):
            return Decision(False, decision.policies, beyond_scopes=True)
        return decision

    def _decide_road(
        self, action: str, resource: Mapping[str, str], entity: Mapping[str, Any] | None = None
    ) -> Decision:
        decision = self._decide(action, resource, entity)
        if decision.allowed and not self._bound.allows_road(action):
            return Decision(False, decision.policies, beyond_scopes=True)
        return decision

    def _decide(self, action: str, resource: Mapping[str, str], entity: Mapping[str, Any] | None) -> Decision:
        entities = self._entities
        if entity is not None:
            entities = entities.with_added_json_str(spelled([entity]))
        request = {
            "principal": {"type": "User", "id": self._user},
            "action": {"type": "Action", "id": action},
            "resource": resource,
            "context": "{}",
        }
        result = cedarpy.is_authorized(request, self._slice(action), entities, schema())
        found = [self._policies.by_number[number] for number in result.diagnostics.reasons]
        deciding = tuple(sorted(policy.id for policy in found))
        if not result.allowed or self._failed(result.diagnostics.errors):
            return Decision(False, deciding)
        masks = [policy.mask for policy in found if policy.mask is not None]
        if len(masks) == len(found):
            return Decision(False, deciding, mask=min(masks))
        return Decision(True, deciding)

    def _residuals(self, action: RecordAction) -> list[Residual] | None:
        """What is left of each policy when the record is all that is unknown; None where Cedar can't say."""
        request = {
            "principal": uid_text("User", self._user),
            "action": uid_text("Action", action),
            "context": {},
        }
        policies = self._slice(action)
        result = cedarpy.is_authorized_partial(request, policies, self._entities)
        # A name that Cedar does not take leaves it without an answer, and without the policies that forbid.
        if len(result.residuals) != len(policies) or self._failed(result.diagnostics.errors):
            return None
        found = self._policies.by_number
        return [
            compile_residual(found[number].id, policy, found[number].mask)
            for number, policy in result.residuals.items()
        ]

    def _slice(self, action: str) -> cedarpy.PolicySet:
        return self._policies.sliced(action, self._roles)

    def _failed(self, errors: list[str]) -> bool:
        """Whether a policy that forbids could not be asked. Cedar goes on without it; nobody should."""
        forbids = [number for number, policy in self._policies.by_number.items() if policy.effect == "forbid"]
        return any(f"policy `{number}`" in error for error in errors for number in forbids)
