"""The gate: what an access says, what it never says, and that it is made once."""

import itertools
import time
from typing import get_args

import cedarpy
import pytest

from bonfire.access.entities import record_entity, spelled, user_entity
from bonfire.access.facets import facets_of
from bonfire.access.facts import Facts, Relation
from bonfire.access.gate import Access, Action, Denied, Gate
from bonfire.access.policies import Policies, PolicyBook, default_text
from bonfire.access.principal import Principal
from bonfire.access.rights import Decision, RecordAction, RoadAction
from bonfire_protocol.faults import FaultCode

GATE = Gate(PolicyBook())
NURSE = Principal("t", "n1", "Nurse One", roles=frozenset(["nurse"]))
FACTS = Facts((Relation("careTeam", "p1"), Relation("careTeam", "p2")))
LAB = {"subject": {"reference": "Patient/p1"}}
MINE = facets_of("Observation", "o1", LAB)
OTHERS = facets_of("Observation", "o2", {"subject": {"reference": "Patient/secret-patient"}})


def with_policies(text: str, principal: Principal = NURSE, facts: Facts = FACTS) -> Access:
    book = PolicyBook()
    assert book.add("t", 1, text) == []
    return Gate(book).access(principal, Facts(facts.relations, policies=1))


def test_a_yes_names_the_policies_that_decided() -> None:
    access = GATE.access(NURSE, FACTS)
    assert access.check("update", "Observation", "o1", MINE) == Decision(True, ("nurse-writes",))
    assert access.may_call("notes.create", "mutation") == Decision(True, ("nurse-calls",))
    assert access.may("breakGlass", "p9") == Decision(True, ("break-glass",))


def test_a_no_says_what_was_asked_and_nothing_of_what_is_there() -> None:
    access = GATE.access(NURSE, FACTS)
    with pytest.raises(Denied, match=r"^you may not update this Observation$") as denied:
        access.check("update", "Observation", "secret-id", OTHERS)
    assert denied.value.code is FaultCode.forbidden
    assert denied.value.next == "stop"
    assert denied.value.decision == Decision(False)
    assert "secret" not in repr((denied.value.args, denied.value.field, denied.value.expected, denied.value.got))
    with pytest.raises(Denied, match="administer access"):
        access.administer()
    with pytest.raises(Denied, match=r"you may not call notes\.create"):
        GATE.access(Principal("t", "u", "U"), FACTS).may_call("notes.create", "mutation")


def test_a_no_names_the_policies_that_forbid() -> None:
    access = GATE.access(NURSE, Facts((Relation("suspended", "*"),)))
    assert access.allows("read", "Observation", "o1", MINE) == Decision(False, ("suspended",))


def test_scopes_bound_what_policies_permit() -> None:
    scoped = Principal(
        "t", "n1", "Nurse One", roles=frozenset(["nurse"]), patient="p1", scopes=frozenset(["patient/Observation.rs"])
    )
    access = GATE.access(scoped, FACTS)
    assert access.check("read", "Observation", "o1", MINE).allowed
    assert access.allows("update", "Observation", "o1", MINE) == Decision(False, ("nurse-writes",), beyond_scopes=True)
    of_second = facets_of("Observation", "o1", {"subject": {"reference": "Patient/p2"}})
    assert access.allows("read", "Observation", "o1", of_second).beyond_scopes
    assert access.reach.fits(MINE)
    assert not access.reach.fits(of_second)
    assert access.allows_road("breakGlass", "p1") == Decision(False, ("break-glass",), beyond_scopes=True)
    assert access.allows_road("search").allowed


def test_scopes_bound_what_is_shown_masked() -> None:
    scopes = frozenset(["user/Condition.rs"])
    access = GATE.access(Principal("t", "a1", "A", roles=frozenset(["analyst"]), scopes=scopes), Facts())
    assert access.allows("read", "Observation", "o1", MINE) == Decision(False, ("analyst-reads",), beyond_scopes=True)
    assert [reach.fits(MINE) for _, reach in access.masked] == [False]


def test_those_who_may_see_the_same_of_a_patient_share_one_reach() -> None:
    one = GATE.access(NURSE, FACTS)
    other = GATE.access(Principal("t", "n2", "Two", roles=frozenset(["nurse"])), Facts((Relation("careTeam", "p1"),)))
    assert one.fingerprint != other.fingerprint
    assert one.reach.about("p1").fingerprint == other.reach.about("p1").fingerprint


def test_a_fingerprint_tells_masks_apart() -> None:
    text = """@id("a") {} permit (principal, action == Action::"read", resource);
    @id("b") permit (principal, action == Action::"administer", resource);"""
    clear, masked = with_policies(text.format("")), with_policies(text.format('@mask("identity")'))
    assert clear.fingerprint == "all"
    assert masked.masked[0][1].fingerprint == "all"
    assert masked.fingerprint not in (clear.fingerprint, "[]")


def test_what_is_seen_in_clear_needs_no_mask() -> None:
    text = """@id("a") @mask("identity") permit (principal, action == Action::"read", resource);
    @id("b") permit (principal, action == Action::"read", resource) when { resource.type == "Location" };
    @id("c") permit (principal, action == Action::"administer", resource);"""
    access = with_policies(text)
    location = facets_of("Location", "l1", {})
    assert access.check("read", "Location", "l1", location) == Decision(True, ("a", "b"))
    assert access.allows("read", "Observation", "o1", MINE) == Decision(False, ("a",), mask="identity")


def test_until_is_when_the_first_grant_ends() -> None:
    facts = Facts(
        (Relation("breakGlass", "p8", 2000.0), Relation("breakGlass", "p9", 1000.0), Relation("careTeam", "p1"))
    )
    assert GATE.access(NURSE, facts).until == 1000.0
    assert GATE.access(NURSE, FACTS).until is None


@pytest.mark.parametrize(
    "user",
    [
        "O'Brien",
        'say "hi"',
        "back\\slash",
        "a\nb",
        "\x00",
        "zero\u200bwidth",
        "\u00e9",
        "e\u0301",
        "\U0001f525",
        "\u2028",
    ],
)
def test_odd_names_are_the_users_own(user: str) -> None:
    access = GATE.access(Principal("t", user, "X", roles=frozenset(["patient"]), patient="p'1\\"), Facts())
    own = frozenset(["type:AppState", "patient:", "label:", f"author:{user}", "draft:false"])
    record = frozenset(["type:Observation", "patient:p'1\\", "label:", "draft:false"])
    others = frozenset(["type:AppState", "patient:", "label:", "author:x", "draft:false"])
    for facets, seen in ((own, True), (record, True), (others, False)):
        assert access.reach.fits(facets) is seen
        assert access.allows("read", "Any", "a", facets).allowed is seen


def test_a_name_that_cedar_does_not_take_shows_nothing() -> None:
    # A combining mark at the start: Cedar escapes it, and takes it in no other spelling.
    access = GATE.access(Principal("t", "\u0301", "X", roles=frozenset(["clinician"])), Facts())
    assert access.reach.nothing
    assert not access.masked


def test_a_policy_that_speaks_of_one_record_is_asked_of_that_record() -> None:
    access = with_policies(
        """@id("one") permit (principal, action == Action::"update", resource == Record::"List/1");
        @id("admin") permit (principal, action == Action::"administer", resource);"""
    )
    facets = facets_of("List", "1", {})
    assert access.allows("update", "List", "1", facets).allowed
    assert not access.allows("update", "List", "2", facets).allowed
    assert access.allows("update", "List", "1", facets).allowed


def test_what_can_not_be_asked_is_refused() -> None:
    everything = with_policies('@id("all") permit (principal, action, resource);')
    assert everything.allows_road("export", "p1").allowed
    assert everything.allows_road("export").allowed
    assert not everything.allows_road("breakGlass").allowed
    assert not everything.allows_road("sql", "p1").allowed


def test_slices_answer_as_all_policies_do() -> None:
    """Cedar is given a part of the policies; the whole text says the same."""
    records = [
        frozenset([f"type:{type}", f"patient:{patient}", label, draft, "author:u1"])
        for type, patient, label, draft in itertools.product(
            ["DocumentReference", "Observation", "AppState", "Practitioner", "AuditEvent"],
            ["", "p1", "p2"],
            ["label:", "label:R"],
            ["draft:true", "draft:false"],
        )
    ]
    roles = ["nurse", "patient", "scribe", "clinician", "administrator", "frontDesk"]
    whole = Policies(default_text())
    handle = cedarpy.PolicySet.from_str(whole.text)
    facts = Facts((Relation("careTeam", "p1"), Relation("refused", "p2")))
    for number, some in enumerate(itertools.combinations(roles, 2)):
        principal = Principal("t", "u1", "U", roles=frozenset(some), patient="p2")
        access = GATE.access(principal, facts)
        action: RecordAction = get_args(RecordAction)[number % 6]
        for facets in records:
            record = record_entity("any", facets)
            request = {
                "principal": {"type": "User", "id": "u1"},
                "action": {"type": "Action", "id": action},
                "resource": record["uid"],
                "context": "{}",
            }
            answer = cedarpy.is_authorized(request, handle, spelled([user_entity(principal, facts), record]))
            ids = tuple(sorted(whole.by_number[number].id for number in answer.diagnostics.reasons))
            assert access.allows(action, "Any", "any", facets) == Decision(answer.allowed, ids)


def test_an_access_is_made_once_for_equal_callers() -> None:
    gate = Gate(PolicyBook())
    first = gate.access(NURSE, FACTS)
    renewed = Principal("t", "n1", "Married Now", roles=frozenset(["nurse"]), expires_at=99)
    again = gate.access(renewed, Facts(FACTS.relations))
    assert again.reach is first.reach
    assert again.principal is renewed
    assert gate.access(renewed, Facts()).reach is not first.reach


def test_a_decision_that_was_made_is_cheap() -> None:
    """The bound is loose, for machines that do other things besides; `python -m bench decisions` measures."""
    access = GATE.access(NURSE, FACTS)
    access.check("update", "Observation", "o1", MINE)

    def once() -> float:
        start = time.perf_counter()
        for _ in range(100):
            access.check("update", "Observation", "o1", MINE)
        return (time.perf_counter() - start) / 100

    assert min(once() for _ in range(20)) < 100e-6


def test_every_action_is_decided_somewhere() -> None:
    assert set(get_args(Action)) == {*get_args(RecordAction), *get_args(RoadAction), "call"}
