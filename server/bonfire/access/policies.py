"""Policies: the text of them, parsed; which of them hold for a tenant; and what is wrong with a text.

A text is Cedar (https://docs.cedarpolicy.com) about the entities of `schema.cedarschema`. Each policy has an `@id`,
which the trail names; `@says("...")` explains it to people; `@mask("identity")` on a permit of `read` shows records
with those fields masked only. The texts that bonfire comes with are in `policies/`, one file a role.
"""

import json
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any, Literal

import cedarpy
from msgspec import Struct

from bonfire.access.compile import Effect, can_be_said
from bonfire.access.entities import SYSTEM, spelled, user_entity
from bonfire.access.facts import Facts
from bonfire.access.principal import Principal
from bonfire.access.recent import Recent

MASKS = ("identity",)
"""What a permit may mask: `identity`, all that says who a patient is."""

_UNSAYABLE = "what it asks of the records that are read can't be said in facets; docs/policies.md lists what can"

_FOLDER = Path(__file__).with_name("policies")
_MOST_SETS = 256
_MOST_SLICES = 512


class UnknownPolicies(KeyError):
    """The tenant's policies of this version are not in the book: load them, `add` them, and ask again."""

    def __init__(self, tenant: str, version: int) -> None:
        super().__init__(f"the policies of this tenant, version {version}, are not loaded")
        self.tenant = tenant
        self.version = version


class Problem(Struct, frozen=True):
    """What is wrong with a text, and in which policy (its `@id`, or Cedar's name for it where it has none; None: the
    whole text). With an `error` a text is not taken; a `warning` is for whoever wrote it to think about."""

    level: Literal["error", "warning"]
    message: str
    policy: str | None = None


class Policy(Struct, frozen=True):
    """One policy of a text. `says`: what it is for, in a sentence; None where its author said nothing."""

    id: str
    effect: Effect
    says: str | None
    mask: str | None


class Policies:
    """A parsed text. `by_number` holds the policies by the names that Cedar gives them (`policy0`), `written` the same
    as Cedar's JSON. `names_records`: some policy speaks of one record by its id, so a decision may depend on it."""

    def __init__(self, text: str) -> None:
        """ValueError where the text can't be parsed."""
        self.text = text
        parsed = cedarpy.PolicySet.from_str(text)
        self.has_templates = bool(parsed.templates())
        self.written: Mapping[str, Mapping[str, Any]] = json.loads(cedarpy.policies_to_json_str(text))["staticPolicies"]
        self.by_number = {number: _policy(number, policy) for number, policy in self.written.items()}
        self.names_records = '"type":"Record"' in json.dumps(self.written, separators=(",", ":"))

        self._needed = {number: _needed_roles(policy) for number, policy in self.written.items()}
        self._slices: Recent[cedarpy.PolicySet] = Recent(_MOST_SLICES)

    def about(self, action: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
        """The policies that can be about this action, as they were written, by Cedar's names."""
        return ((number, policy) for number, policy in self.written.items() if _may_be(policy, action))

    def sliced(self, action: str, roles: frozenset[str]) -> cedarpy.PolicySet:
        """Those that can be about this action and, of the permits, about somebody of these roles; for them the answer
        is that of all. Cedar looks at each policy that it is given: of the default ones at 51, or at 5."""
        return self._slices.get((action, roles), lambda: self._slice(action, roles))

    def _slice(self, action: str, roles: frozenset[str]) -> cedarpy.PolicySet:
        kept = {}
        for number, policy in self.about(action):
            needed = self._needed[number]
            if needed is None or not needed.isdisjoint(roles):
                kept[number] = policy
        return cedarpy.PolicySet.from_json_str(
            json.dumps({"staticPolicies": kept, "templates": {}, "templateLinks": []})
        )


class PolicyBook:
    """The policies of all tenants, by version; 0 is what bonfire comes with. It holds the last used ones."""

    def __init__(self) -> None:
        self._default = Policies(default_text())
        self._sets: OrderedDict[tuple[str, int], Policies] = OrderedDict()

    def add(self, tenant: str, version: int, text: str) -> list[Problem]:
        """Know this version's text. One with an error, which nobody can have activated, permits nothing to anybody.
        ValueError for version 0."""
        if version < 1:
            raise ValueError("version 0 is what bonfire comes with")
        problems = [problem for problem in check(text) if problem.level == "error"]
        self._sets[tenant, version] = Policies("") if problems else Policies(text)
        self._sets.move_to_end((tenant, version))
        while len(self._sets) > _MOST_SETS:
            self._sets.popitem(last=False)
        return problems

    def policies(self, tenant: str, version: int) -> Policies:
        """UnknownPolicies where the version was not added, or not used for long."""
        if version == 0:
            return self._default
        found = self._sets.get((tenant, version))
        if found is None:
            raise UnknownPolicies(tenant, version)
        self._sets.move_to_end((tenant, version))
        return found


@cache
def schema() -> cedarpy.Schema:
    """The schema that texts are checked with, and that requests and entities have to fit."""
    return cedarpy.Schema.from_str(Path(__file__).with_name("schema.cedarschema").read_text(encoding="utf-8"))


def default_text() -> str:
    """The policies that bonfire comes with: a clinic's."""
    return "\n".join(file.read_text(encoding="utf-8") for file in sorted(_FOLDER.glob("*.cedar")))


def check(text: str) -> list[Problem]:
    """What is wrong with the text: it can't be parsed; it does not fit the schema; a policy has no `@id`, or that of
    another one; facets can't say what it asks of the records that are read; nobody could administer."""
    try:
        policies = Policies(text)
    except ValueError as error:
        return [Problem("error", f"it can't be parsed: {error}")]
    problems: list[Problem] = []
    if policies.has_templates:
        problems.append(Problem("error", "templates are of no use here: nothing links them"))
    for found in cedarpy.validate_policies(text, schema()).errors:
        named = policies.by_number.get(found.policy_id)
        problems.append(Problem("error", found.error, None if named is None else named.id))
    seen: set[str] = set()
    for number, policy in policies.by_number.items():
        written = policies.written[number]
        if not written.get("annotations", {}).get("id"):
            problems.append(Problem("error", "it has no @id", policy.id))
        elif policy.id in seen:
            problems.append(Problem("error", "another policy has this @id too", policy.id))
        seen.add(policy.id)
        problems += _check_mask(policy, written)
        if _may_be(written, "read") and not can_be_said(written):
            problems.append(Problem("error", _UNSAYABLE, policy.id))
    if not problems and not _somebody_administers(policies):
        problems.append(Problem("warning", "it lets nobody administer: only an operator could replace it"))
    return problems


def _policy(number: str, written: Mapping[str, Any]) -> Policy:
    annotations = written.get("annotations", {})
    effect: Effect = "permit" if written["effect"] == "permit" else "forbid"
    return Policy(annotations.get("id") or number, effect, annotations.get("says"), annotations.get("mask"))


def _check_mask(policy: Policy, written: Mapping[str, Any]) -> list[Problem]:
    if policy.mask is None:
        return []
    if policy.mask not in MASKS:
        return [Problem("error", f"there is no mask `{policy.mask}`; there is: {', '.join(MASKS)}", policy.id)]
    only_reads = written["action"].get("entity") == {"type": "Action", "id": "read"} and written["action"]["op"] == "=="
    if policy.effect == "forbid" or not only_reads:
        return [Problem("error", 'a mask goes with a permit whose action is exactly Action::"read"', policy.id)]
    return []


def _may_be(written: Mapping[str, Any], action: str) -> bool:
    """Whether the policy's head lets it be about this action."""
    match written["action"]:
        case {"op": "=="} | {"op": "in"} as scope:
            named = [scope["entity"]] if "entity" in scope else scope["entities"]
            return any(entity["id"] == action for entity in named)
        case _:
            return True


def _needed_roles(written: Mapping[str, Any]) -> frozenset[str] | None:
    """The roles of which a caller must have one for this permit to hold; None where that is not what it asks first."""
    if written["effect"] != "permit" or not written["conditions"] or written["conditions"][0]["kind"] != "when":
        return None
    first = written["conditions"][0]["body"]
    while "&&" in first:
        first = first["&&"]["left"]
    roles = {".": {"left": {"Var": "principal"}, "attr": "roles"}}
    match first:
        case {"contains": {"left": left, "right": {"Value": str() as role}}} if left == roles:
            return frozenset([role])
        case {"containsAny": {"left": left, "right": {"Set": [*named]}}} if left == roles:
            texts = frozenset(element.get("Value") for element in named if isinstance(element.get("Value"), str))
            return texts if all(element.get("Value") in texts for element in named) else None
        case _:
            return None


def _somebody_administers(policies: Policies) -> bool:
    """Whether a person who has every role that the text names may administer."""
    roles = frozenset(_texts([policy["conditions"] for policy in policies.written.values()]))
    principal = Principal("tenant", "somebody", "Somebody", roles=roles)
    request = {
        "principal": {"type": "User", "id": principal.user},
        "action": {"type": "Action", "id": "administer"},
        "resource": SYSTEM,
        "context": "{}",
    }
    entities = spelled([user_entity(principal, Facts())])
    return cedarpy.is_authorized(request, policies.sliced("administer", roles), entities, schema()).allowed


def _texts(node: Any) -> list[str]:
    match node:
        case {"Value": str() as text}:
            return [text]
        case dict():
            return [text for child in node.values() for text in _texts(child)]
        case list():
            return [text for child in node for text in _texts(child)]
        case _:
            return []
