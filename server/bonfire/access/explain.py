"""Why: each policy that is about an action, whether it holds, and if not, at which of its conditions it ends."""

import json
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import cedarpy
from msgspec import Struct

from bonfire.access.compile import Effect
from bonfire.access.entities import spelled, user_entity
from bonfire.access.facts import Facts
from bonfire.access.policies import Policies, schema
from bonfire.access.principal import Principal

_ANYTHING: Mapping[str, Any] = {"op": "All"}


class Finding(Struct, frozen=True):
    """One policy. `holds`: it applies to what was asked. `ends_at`: else the first condition that is not so, in Cedar
    (None: its head speaks of something else), after so many that are."""

    id: str
    effect: Effect
    says: str | None
    mask: str | None
    holds: bool
    ends_at: str | None = None
    after: int = 0


def explain(
    policies: Policies, principal: Principal, facts: Facts, action: str, resource: Mapping[str, Any]
) -> list[Finding]:
    """What each policy that can be about the action says of this request: those that hold first, then the nearest.
    `resource`: an entity of `entities.py`."""
    caller = user_entity(principal, facts)
    entities = cedarpy.Entities.from_json_str(spelled([caller, resource]), schema())
    request = {
        "principal": caller["uid"],
        "action": {"type": "Action", "id": action},
        "resource": resource["uid"],
        "context": "{}",
    }

    def holds(written: Mapping[str, Any]) -> bool:
        result = cedarpy.is_authorized(request, _alone(written), entities, schema())
        return bool(result.diagnostics.reasons)

    findings: list[Finding] = []
    for number, written in policies.about(action):
        policy = policies.by_number[number]
        found = holds(written)
        after, ends_at = (0, None) if found else _ends_at(written, holds)
        findings.append(Finding(policy.id, policy.effect, policy.says, policy.mask, found, ends_at, after))
    return sorted(findings, key=lambda finding: (not finding.holds, finding.effect != "forbid", -finding.after))


def _ends_at(written: Mapping[str, Any], holds: Callable[[Mapping[str, Any]], bool]) -> tuple[int, str | None]:
    kept: list[Mapping[str, Any]] = []
    if not holds({**written, "conditions": kept}):
        return 0, None
    for condition in _conditions(written):
        kept.append(condition)
        if not holds({**written, "conditions": kept}):
            return len(kept) - 1, _in_cedar(condition)
    return len(kept), None


def _conditions(written: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """The conditions that must all be so, in the order in which Cedar looks at them."""
    for condition in written["conditions"]:
        if condition["kind"] == "when":
            for part in _parts(condition["body"]):
                yield {"kind": "when", "body": part}
        else:
            yield condition


def _parts(body: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    if "&&" in body:
        yield from _parts(body["&&"]["left"])
        yield from _parts(body["&&"]["right"])
    else:
        yield body


def _alone(written: Mapping[str, Any]) -> cedarpy.PolicySet:
    return cedarpy.PolicySet.from_json_str(_document(written))


def _in_cedar(condition: Mapping[str, Any]) -> str:
    policy = {
        "effect": "permit",
        "principal": _ANYTHING,
        "action": _ANYTHING,
        "resource": _ANYTHING,
        "conditions": [condition],
    }
    text = " ".join(cedarpy.policies_from_json_str(_document(policy)).split())
    found = re.search(r"(when|unless) \{ ?(.*?) ?\};", text)
    return text if found is None else (found[2] if found[1] == "when" else f"not ({found[2]})")


def _document(written: Mapping[str, Any]) -> str:
    return json.dumps({"staticPolicies": {"it": written}, "templates": {}, "templateLinks": []})
