"""The policies that bonfire comes with, as a table; what is found wrong with a text; the book of them."""

import itertools
import re
from collections.abc import Mapping
from pathlib import Path
from typing import get_args

import pytest

from bonfire.access.facets import app_state_facets
from bonfire.access.facts import Facts, Relation
from bonfire.access.gate import Access, Gate
from bonfire.access.policies import PolicyBook, Problem, UnknownPolicies, check, default_text
from bonfire.access.principal import Kind, Principal
from bonfire.access.rights import RecordAction, RoadAction

GATE = Gate(PolicyBook())
TEAM = Relation("careTeam", "team")
KINDS: Mapping[str, Kind] = {"service": "service", "importer": "service", "worker": "service", "agent": "agent"}
ROLES = [
    "clinician", "nurse", "frontDesk", "scribe", "patient", "analyst", "administrator", "agent", "service", "importer",
    "worker", "nobody",
]  # fmt: skip


def access(role: str, *relations: Relation) -> Access:
    """A caller of this role who is on the care team of `team`, and is the patient `self` where they are one."""
    principal = Principal(
        "t",
        "me",
        "Me",
        roles=frozenset() if role == "nobody" else frozenset([role]),
        kind=KINDS.get(role, "person"),
        patient="self" if role == "patient" else None,
        behalf_of="boss" if role == "agent" else None,
    )
    return GATE.access(principal, Facts((TEAM, *relations)))


def record(type: str, patient: str, label: str = "", draft: bool = False) -> frozenset[str]:
    return frozenset(
        [
            f"type:{type}",
            f"patient:{patient}",
            f"label:{label}",
            "draft:true" if draft else "draft:false",
            "author:other",
        ]
    )


# What is tried on, by name. Whose it is goes before the colon: nobody's where there is nothing.
RECORDS: Mapping[str, frozenset[str]] = {
    "team:note": record("DocumentReference", "team"),
    "team:draft": record("DocumentReference", "team", draft=True),
    "team:restricted": record("Observation", "team", label="R"),
    "team:lab": record("Observation", "team"),
    "team:person": record("Patient", "team"),
    "team:visit": record("Appointment", "team"),
    "team:state": app_state_facets("drafts", "me", "team"),
    "other:note": record("DocumentReference", "other"),
    "other:draft": record("DocumentReference", "other", draft=True),
    "other:lab": record("Observation", "other"),
    "other:vip": record("Patient", "other", label="V"),
    "other:visit": record("Appointment", "other"),
    "self:note": record("DocumentReference", "self"),
    "self:draft": record("DocumentReference", "self", draft=True),
    "self:lab": record("Observation", "self"),
    "self:state": app_state_facets("drafts", "other", "self"),
    ":practitioner": record("Practitioner", ""),
    ":binary": record("Binary", ""),
    ":trail": record("AuditEvent", ""),
    ":origin": record("Provenance", "team"),
    ":my-state": app_state_facets("settings", "me", None),
    ":state": app_state_facets("settings", None, None),
}
CLINICAL = frozenset(RECORDS) - {":trail"}
OF_TEAM = {"team:note", "team:draft", "team:lab", "team:person", "team:visit", "team:state"}
STATE = {":my-state", ":state"}
WRITABLE = CLINICAL - {":origin"}

READS: Mapping[str, set[str] | frozenset[str]] = {
    "clinician": CLINICAL,
    "nurse": OF_TEAM | STATE | {":practitioner", ":origin"},
    "frontDesk": {"team:person", "team:visit", "other:visit", ":practitioner"} | STATE,
    "scribe": OF_TEAM | STATE | {":practitioner", ":origin"},
    "patient": {"self:note", "self:lab", ":practitioner", ":my-state"},
    "analyst": set(),
    "administrator": {":practitioner", ":trail"} | STATE,
    "agent": OF_TEAM | {":practitioner", ":origin"},
    "service": CLINICAL,
    "importer": CLINICAL,
    "worker": CLINICAL,
    "nobody": set(),
}
CREATES: Mapping[str, set[str] | frozenset[str]] = {
    "clinician": WRITABLE,
    "nurse": OF_TEAM | STATE,
    "frontDesk": {"team:person", "team:visit", "other:visit"} | STATE,
    "scribe": {"team:draft", "team:state"} | STATE,
    "patient": {":my-state"},
    "analyst": set(),
    "administrator": {":practitioner"} | STATE,
    "agent": {"team:draft"},
    "service": WRITABLE,
    "importer": CLINICAL,
    "worker": set(),
    "nobody": set(),
}
DELETES: Mapping[str, set[str] | frozenset[str]] = {
    **CREATES,
    "frontDesk": STATE,
    "scribe": {"team:state"} | STATE,
    "agent": set(),
    "importer": set(),
}
EXPECTED: Mapping[RecordAction, Mapping[str, set[str] | frozenset[str]]] = {
    "read": READS,
    "download": {role: READS[role] if READS[role] == CLINICAL else READS[role] - STATE for role in ROLES}
    | {"agent": {":practitioner"}},
    "create": CREATES,
    "update": CREATES,
    "delete": DELETES,
    "sign": {role: WRITABLE if role == "clinician" else set() for role in ROLES},
}


@pytest.mark.parametrize(("role", "action"), list(itertools.product(ROLES, get_args(RecordAction))))
def test_who_may_do_what_with_which_record(role: str, action: RecordAction) -> None:
    caller = access(role)
    allowed = {name for name, facets in RECORDS.items() if caller.allows(action, "Any", "r1", facets).allowed}
    assert allowed == EXPECTED[action][role]


@pytest.mark.parametrize("role", ROLES)
def test_rows_are_seen_as_records_are_read(role: str) -> None:
    assert {name for name, facets in RECORDS.items() if access(role).reach.fits(facets)} == READS[role]


def test_the_analyst_reads_coded_records_masked() -> None:
    analyst = access("analyst")
    assert analyst.reach.nothing
    ((mask, reach),) = analyst.masked
    assert mask == "identity"
    seen = {name for name, facets in RECORDS.items() if reach.fits(facets)}
    assert seen == {"team:lab", "other:lab", "self:lab", "team:person"}
    for name, facets in RECORDS.items():
        decision = analyst.allows("read", "Any", "r1", facets)
        assert not decision.allowed
        assert decision.mask == ("identity" if name in seen else None)
    assert all(not access(role).masked for role in ROLES if role != "analyst")


ROADS: Mapping[str, set[str]] = {
    "clinician": {"search", "subscribe", "upload", "sql", "breakGlass other", "export other", "export self"},
    "nurse": {"search", "subscribe", "upload", "breakGlass other"},
    "frontDesk": {"search", "subscribe"},
    "scribe": {"search", "subscribe"},
    "patient": {"search", "subscribe", "export self"},
    "analyst": {"search", "subscribe"},
    "administrator": {"search", "subscribe", "administer"},
    "agent": {"search", "subscribe"},
    "service": {"search", "subscribe", "upload", "sql", "export", "export other", "export self"},
    "importer": {"search", "upload"},
    "worker": set(),
    "nobody": set(),
}


@pytest.mark.parametrize("role", ROLES)
def test_who_may_go_which_way(role: str) -> None:
    caller = access(role)
    ways: list[tuple[RoadAction, str | None]] = [(action, None) for action in get_args(RoadAction)]
    ways += [("export", "other"), ("export", "self"), ("breakGlass", "other")]
    allowed = {" ".join(filter(None, way)) for way in ways if caller.allows_road(*way).allowed}
    assert allowed == ROADS[role]


FUNCTIONS = {"list", "create", "state", "grant"}
CALLS: Mapping[str, set[str]] = {
    **dict.fromkeys(("clinician", "nurse", "frontDesk", "scribe", "agent", "service"), FUNCTIONS),
    "patient": {"list", "state"},
    "analyst": {"list"},
    "administrator": {"list", "state", "grant"},
    "importer": set(),
    "worker": set(),
    "nobody": set(),
}


@pytest.mark.parametrize("role", ROLES)
def test_who_may_call_what(role: str) -> None:
    caller = access(role)
    functions = {
        "list": caller.allows_call("notes.byPatient", "query"),
        "create": caller.allows_call("notes.create", "mutation"),
        "state": caller.allows_call("appState.put", "mutation"),
        "grant": caller.allows_call("access.grant", "mutation"),
    }
    assert {name for name, decision in functions.items() if decision.allowed} == CALLS[role]


@pytest.mark.parametrize("role", ROLES)
def test_who_is_suspended_may_do_nothing(role: str) -> None:
    caller = access(role, Relation("suspended", "*"))
    assert caller.reach.nothing
    assert not caller.masked
    for action, facets in itertools.product(get_args(RecordAction), RECORDS.values()):
        assert not caller.allows(action, "Any", "r1", facets).allowed
    assert not any(caller.allows_road(action).allowed for action in get_args(RoadAction))
    assert not caller.allows_call("notes.byPatient", "query").allowed


@pytest.mark.parametrize("role", ROLES)
def test_a_patients_refusal_hides_all_of_hers(role: str) -> None:
    caller = access(role, Relation("refused", "team"), Relation("refused", "other"))
    hidden = {name for name, facets in RECORDS.items() if not {"patient:team", "patient:other"}.isdisjoint(facets)}
    for name, facets in RECORDS.items():
        assert caller.reach.fits(facets) is (name in READS[role] and name not in hidden)
        assert caller.allows("read", "Any", "r1", facets).allowed is caller.reach.fits(facets)
    assert not any(reach.fits(RECORDS["other:lab"]) for _, reach in caller.masked)
    assert not caller.allows_road("export", "other").allowed


@pytest.mark.parametrize("role", ["clinician", "nurse"])
def test_breaking_the_glass_opens_one_chart_to_be_read(role: str) -> None:
    caller = access(role, Relation("breakGlass", "other", until=2000.0), Relation("refused", "other"))
    for name, facets in RECORDS.items():
        opened = name in READS[role] or "patient:other" in facets
        assert caller.allows("read", "Any", "r1", facets).allowed is opened
        assert caller.reach.fits(facets) is opened
    assert caller.allows("read", "Any", "r1", RECORDS["other:vip"]).policies[0] == "broken-glass"
    # Nurses get to write nothing by it, and nobody takes away what was refused to them.
    assert caller.allows("update", "Any", "r1", RECORDS["other:lab"]).allowed is (role == "clinician")
    assert not caller.allows_road("export", "other").allowed


def test_others_have_no_glass_to_break() -> None:
    for role in set(ROLES) - {"clinician", "nurse", "service", "importer", "worker"}:
        caller = access(role, Relation("breakGlass", "other"))
        assert not caller.reach.fits(RECORDS["other:lab"])


def test_machines_are_not_taken_for_people() -> None:
    machine = Principal("t", "m", "M", roles=frozenset(["clinician"]), kind="agent", behalf_of="boss")
    caller = GATE.access(machine, Facts())
    assert not caller.allows("sign", "Any", "r1", RECORDS["team:draft"]).allowed
    assert not caller.allows_road("breakGlass", "other").allowed
    person = Principal("t", "m", "M", roles=frozenset(["service", "agent", "importer", "worker"]))
    assert not GATE.access(person, Facts((TEAM,))).reach.fits(RECORDS["team:lab"])


# ---- what is wrong with a text -----------------------------------------------------------------------------------

ADMIN = '@id("admin") permit (principal, action == Action::"administer", resource);'


def problems(text: str) -> list[tuple[str, str | None]]:
    return [(problem.level, problem.policy) for problem in check(f"{ADMIN}\n{text}")]


def test_the_default_policies_have_no_problem() -> None:
    assert check(default_text()) == []


@pytest.mark.parametrize(
    ("text", "level", "policy"),
    [
        ("permit (principal, action, resource)", "error", None),
        ("permit (principal, action, resource);", "error", "policy1"),
        ('@id("admin") permit (principal, action, resource);', "error", "admin"),
        ('@id("") permit (principal, action, resource);', "error", "policy1"),
        ('@id("a") permit (principal, action == Action::"raed", resource);', "error", "a"),
        ('@id("a") permit (principal, action, resource is Record) when { resource.color == "red" };', "error", "a"),
        ('@id("a") permit (principal, action, resource is Record) when { resource.type == 5 };', "error", "a"),
        (
            '@id("a") permit (principal, action == Action::"read", resource) when { resource.patient in [] };',
            "error",
            "a",
        ),
        (
            '@id("a") permit (principal, action == Action::"read", resource) when { resource.type like "Obs*" };',
            "error",
            "a",
        ),
        ('@id("a") permit (principal, action == Action::"read", resource == Record::"Patient/1");', "error", "a"),
        (
            '@id("a") forbid (principal, action, resource is Record) when { resource.categories.isEmpty() };',
            "error",
            "a",
        ),
        ('@id("a") @mask("face") permit (principal, action == Action::"read", resource);', "error", "a"),
        ('@id("a") @mask("identity") permit (principal, action, resource);', "error", "a"),
        ('@id("a") @mask("identity") forbid (principal, action == Action::"read", resource);', "error", "a"),
        ('@id("a") permit (principal == ?principal, action, resource);', "error", None),
    ],
)
def test_what_is_refused(text: str, level: str, policy: str | None) -> None:
    assert (level, policy) in problems(text)


def test_of_records_that_are_written_anything_may_be_asked() -> None:
    assert (
        problems('@id("a") permit (principal, action == Action::"update", resource) when { resource.type like "O*" };')
        == []
    )
    assert problems('@id("a") permit (principal, action == Action::"sign", resource == Record::"List/1");') == []


def test_the_examples_of_the_page_can_be_put_in_force() -> None:
    page = Path(__file__).parents[2].joinpath("docs", "policies.md").read_text(encoding="utf-8")
    examples = re.findall(r"```cedar\n(.*?)```", page, re.DOTALL)
    assert len(examples) >= 2
    assert check("\n".join([default_text(), *examples])) == []


def test_a_text_that_locks_everybody_out_is_warned_of() -> None:
    (problem,) = check('@id("a") permit (principal, action == Action::"read", resource);')
    assert (problem.level, problem.policy) == ("warning", None)
    assert check('@id("a") permit (principal, action, resource) when { principal.roles.contains("chief") };') == []


# ---- the book ------------------------------------------------------------------------------------------------------

NURSES_READ = (
    '@id("n") permit (principal, action == Action::"read", resource) when { principal.roles.contains("nurse") };'
)


def test_each_tenant_has_its_own() -> None:
    book = PolicyBook()
    gate = Gate(book)
    assert book.add("t", 3, NURSES_READ) == []
    nurse = Principal("t", "me", "Me", roles=frozenset(["nurse"]))
    assert gate.access(nurse, Facts(policies=3)).reach.everything
    assert not gate.access(nurse, Facts()).reach.everything
    with pytest.raises(UnknownPolicies) as unknown:
        gate.access(nurse, Facts(policies=4))
    assert (unknown.value.tenant, unknown.value.version) == ("t", 4)
    with pytest.raises(UnknownPolicies):
        gate.access(Principal("elsewhere", "me", "Me"), Facts(policies=3))


def test_a_text_that_nobody_can_have_activated_permits_nothing() -> None:
    book = PolicyBook()
    found = book.add("t", 1, NURSES_READ + "permit (principal, action, resource);")
    assert found == [Problem("error", "it has no @id", "policy1")]
    nurse = Principal("t", "me", "Me", roles=frozenset(["nurse"]))
    assert Gate(book).access(nurse, Facts(policies=1)).reach.nothing


def test_a_version_that_is_added_again_is_what_holds() -> None:
    book = PolicyBook()
    gate = Gate(book)
    nurse = Principal("t", "me", "Me", roles=frozenset(["nurse"]))
    book.add("t", 1, NURSES_READ)
    assert gate.access(nurse, Facts(policies=1)).reach.everything
    book.add("t", 1, NURSES_READ.replace("nurse", "chief"))
    assert gate.access(nurse, Facts(policies=1)).reach.nothing


def test_the_book_keeps_those_that_are_used() -> None:
    book = PolicyBook()
    for version in range(1, 300):
        book.add("t", version, NURSES_READ)
        book.policies("t", 1)
    with pytest.raises(UnknownPolicies):
        book.policies("t", 2)
    assert book.policies("t", 299).text == NURSES_READ


def test_what_bonfire_comes_with_has_no_version_to_replace() -> None:
    with pytest.raises(ValueError, match="version 0"):
        PolicyBook().add("t", 0, NURSES_READ)


def test_app_state_can_be_kept_to_its_owner_where_rows_are_read() -> None:
    page = Path(__file__).parents[2].joinpath("docs", "policies.md").read_text(encoding="utf-8")
    (private,) = (example for example in re.findall(r"@id\(\"private-state\".*?;\n", page, re.DOTALL))
    book = PolicyBook()
    assert book.add("t", 1, default_text() + private) == []
    for role in ("clinician", "nurse", "service"):
        principal = Principal("t", "me", "Me", roles=frozenset([role]), kind=KINDS.get(role, "person"))
        reach = Gate(book).access(principal, Facts((TEAM,), policies=1)).reach
        assert reach.fits(app_state_facets("drafts", "me", "team"))
        assert reach.fits(app_state_facets("drafts", None, "team"))
        assert not reach.fits(app_state_facets("drafts", "other", "team"))
        assert reach.within({"type:Observation", "patient:team", "label:"}).everything
