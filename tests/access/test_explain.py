"""Explanations: which policy decided, and where the others end."""

from bonfire.access.entities import SYSTEM, record_entity
from bonfire.access.explain import Finding, explain
from bonfire.access.facts import Facts, Relation
from bonfire.access.policies import Policies, default_text
from bonfire.access.principal import Principal

POLICIES = Policies(default_text())
NURSE = Principal("t", "n1", "N", roles=frozenset(["nurse"]))
TEAM = Facts((Relation("careTeam", "p1"),))


def findings(label: str, facts: Facts = TEAM) -> dict[str, Finding]:
    record = record_entity("Observation/1", ["type:Observation", "patient:p1", f"label:{label}", "draft:false"])
    return {finding.id: finding for finding in explain(POLICIES, NURSE, facts, "read", record)}


def test_what_holds_comes_first() -> None:
    found = list(findings("").values())
    assert [finding.id for finding in found if finding.holds] == ["nurse-reads"]
    assert found[0].id == "nurse-reads"
    assert found[0].says == "Nurses read the records of their care teams' patients, but not restricted ones."


def test_forbids_come_before_permits() -> None:
    found = list(findings("", Facts((Relation("careTeam", "p1"), Relation("refused", "p1")))).values())
    assert [(finding.id, finding.effect) for finding in found[:2]] == [("consent", "forbid"), ("nurse-reads", "permit")]


def test_a_policy_that_does_not_hold_ends_at_a_condition() -> None:
    found = findings("R")
    assert found["nurse-reads"].ends_at == '!((resource.labels).containsAny(["R", "V"]))'
    assert found["nurse-reads"].after == 3
    assert found["clinician-reads"].ends_at == '(principal.roles).contains("clinician")'
    assert found["clinician-reads"].after == 0


def test_policies_about_other_actions_are_left_out() -> None:
    assert "nurse-writes" not in findings("")


def test_an_exception_is_told_as_one() -> None:
    policies = Policies("""
    @id("a") permit (principal, action, resource) unless { principal.suspended };
    @id("b") permit (principal, action, resource is Patient);
    """)
    suspended = Facts((Relation("suspended", "*"),))
    system = {"uid": SYSTEM, "attrs": {}, "parents": []}
    first, second = explain(policies, NURSE, suspended, "sql", system)
    assert (first.id, first.ends_at) == ("a", "not (principal.suspended)")
    assert (second.id, second.ends_at) == ("b", None)
