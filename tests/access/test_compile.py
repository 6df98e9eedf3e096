"""What compiled policies show is what Cedar permits: policies at random, on every record of a small world."""

import itertools
from collections.abc import Sequence
from typing import Any

import cedarpy
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bonfire.access.compile import can_be_said
from bonfire.access.entities import record_entity, spelled, user_entity
from bonfire.access.facts import Facts, Relation
from bonfire.access.policies import Policies
from bonfire.access.principal import Principal
from bonfire.access.rights import Rights
from bonfire.store.reach import EVERYTHING, NOTHING, Reach

CALLERS = [
    (
        Principal("t", "u1", "One", roles=frozenset(["nurse", "O'Brien \"\\"]), patient="p3"),
        Facts((Relation("careTeam", "p1"), Relation("careTeam", "p2"), Relation("refused", "p2"))),
    ),
    (Principal("t", "u2", "Two", roles=frozenset(["clinician"]), kind="agent", behalf_of="u1"), Facts()),
]


WORLD = [
    frozenset([type, patient, *labels, *categories, *authors, draft])
    for type, patient, labels, categories, authors, draft in itertools.product(
        ["type:A", "type:B"],
        ["patient:", "patient:p1", "patient:p2", "patient:p3"],
        [["label:"], ["label:R"], ["label:R", "label:V"]],
        [[], ["category:c"]],
        [["author:"], ["author:u1"]],
        ["draft:true", "draft:false"],
    )
]
RECORDS = [record_entity(f"A/{number}", facets) for number, facets in enumerate(WORLD)]
ENTITIES = [cedarpy.Entities.from_json_str(spelled([user_entity(*caller), *RECORDS])) for caller in CALLERS]

TYPES, PATIENTS, LABELS, CATEGORIES, USERS = (
    ["A", "B", "C", ""],
    ["p1", "p3", "p9"],
    ["R", "V"],
    ["c", "d"],
    ["u1", "u9"],
)


def _texts(values: Sequence[str]) -> str:
    return "[" + ", ".join(f'"{value}"' for value in values) + "]"


def _entities(type: str, values: Sequence[str]) -> str:
    return "[" + ", ".join(f'{type}::"{value}"' for value in values) + "]"


def _lists(values: Sequence[str]) -> st.SearchStrategy[list[str]]:
    return st.lists(st.sampled_from(values), max_size=3)


def _patient_atoms() -> st.SearchStrategy[str]:
    """What is an error of a record that is nobody's."""
    return st.one_of(
        st.sampled_from(
            [
                "principal.patients.contains(resource.patient)",
                "principal.refusedBy.contains(resource.patient)",
                "resource.patient in principal.patients",
                "(principal has self && principal.self == resource.patient)",
            ]
        ),
        st.sampled_from(PATIENTS).map(lambda id: f'resource.patient == Patient::"{id}"'),
        st.sampled_from(PATIENTS).map(lambda id: f'Patient::"{id}" != resource.patient'),
        st.sampled_from(PATIENTS).map(lambda id: f'resource.patient in Patient::"{id}"'),
        _lists(PATIENTS).map(lambda ids: f"resource.patient in {_entities('Patient', ids)}"),
        _lists(PATIENTS).map(lambda ids: f"{_entities('Patient', ids)}.contains(resource.patient)"),
    )


def _guarded() -> st.SearchStrategy[str]:
    return st.one_of(
        _patient_atoms().map(lambda atom: f"(resource has patient && {atom})"),
        _patient_atoms().map(lambda atom: f"(!(resource has patient) || {atom})"),
        _patient_atoms().map(lambda atom: f"(if resource has patient then {atom} else resource.draft)"),
    )


def _atoms() -> st.SearchStrategy[str]:
    """Conditions that facets can say, and that never fail."""
    return st.one_of(
        st.sampled_from(
            [
                "true",
                "false",
                "resource has patient",
                "resource is Record",
                "resource.draft",
                "resource.draft == false",
                "true == resource.draft",
                "[true].contains(resource.draft)",
                "resource.labels.isEmpty()",
                "resource.authors.isEmpty()",
                "resource.authors.contains(principal)",
                "principal in resource.authors",
                "(principal has behalfOf && resource.authors.contains(principal.behalfOf))",
                'principal.roles.contains("nurse")',
                'principal.kind == "agent"',
                "principal.suspended",
            ]
        ),
        st.sampled_from(TYPES).map(lambda type: f'resource.type == "{type}"'),
        st.sampled_from(TYPES).map(lambda type: f'"{type}" != resource.type'),
        _lists(TYPES).map(lambda types: f"{_texts(types)}.contains(resource.type)"),
        st.sampled_from(LABELS).map(lambda label: f'resource.labels.contains("{label}")'),
        _lists(LABELS).map(lambda labels: f"resource.labels.containsAny({_texts(labels)})"),
        _lists(LABELS).map(lambda labels: f"resource.labels.containsAll({_texts(labels)})"),
        _lists(CATEGORIES).map(lambda codes: f"{_texts(codes)}.containsAny(resource.categories)"),
        st.sampled_from(CATEGORIES).map(lambda code: f'resource.categories.contains("{code}")'),
        st.sampled_from(USERS).map(lambda id: f'resource.authors.contains(User::"{id}")'),
        _lists(USERS).map(lambda ids: f"resource.authors.containsAny({_entities('User', ids)})"),
        _guarded(),
    )


def _conditions(atoms: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return st.recursive(
        atoms,
        lambda inner: st.one_of(
            st.tuples(inner, inner).map(lambda pair: f"({pair[0]} && {pair[1]})"),
            st.tuples(inner, inner).map(lambda pair: f"({pair[0]} || {pair[1]})"),
            st.tuples(inner, inner).map(lambda pair: f"(({pair[0]}) == ({pair[1]}))"),
            st.tuples(inner, inner, inner).map(lambda three: f"(if {three[0]} then {three[1]} else {three[2]})"),
            inner.map(lambda condition: f"!({condition})"),
        ),
        max_leaves=6,
    )


def _texts_of_policies(atoms: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    policy = st.tuples(
        st.sampled_from(["permit", "permit", "forbid"]),
        st.sampled_from(["resource", "resource is Record"]),
        st.sampled_from(["when", "when", "unless"]),
        _conditions(atoms),
    ).map(lambda parts: f"{parts[0]} (principal, action, {parts[1]}) {parts[2]} {{ {parts[3]} }};")
    return st.lists(policy, min_size=1, max_size=4).map("\n".join)


def permitted(policies: Policies, caller: int) -> list[bool]:
    """Cedar's own decision on each record of the world."""
    requests = [
        {
            "principal": {"type": "User", "id": CALLERS[caller][0].user},
            "action": {"type": "Action", "id": "read"},
            "resource": record["uid"],
            "context": "{}",
        }
        for record in RECORDS
    ]
    answers = cedarpy.is_authorized_batch(requests, policies.text, ENTITIES[caller])
    return [answer.allowed for answer in answers]


def compiled(policies: Policies, caller: int) -> Reach:
    return Rights(policies, *CALLERS[caller]).reaches[None]


QUICK = settings(max_examples=450, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@QUICK
@given(_texts_of_policies(_atoms()), st.sampled_from(range(len(CALLERS))))
def test_reach_is_exactly_what_cedar_permits(text: str, caller: int) -> None:
    policies = Policies(text)
    reach = compiled(policies, caller)
    assert [reach.fits(facets) for facets in WORLD] == permitted(policies, caller)
    assert all(can_be_said(policy) for policy in policies.written.values())


UNSAYABLE = [
    "principal.patients.containsAny([resource.patient])",
    'resource.type like "A*"',
    'resource == Record::"A/1"',
    'resource in [Record::"A/1", Record::"A/2"]',
    "resource.categories.isEmpty()",
    '["R", "V"].containsAll(resource.labels)',
    'resource.labels == ["R"]',
    "resource.authors == resource.authors",
    'if resource.draft then resource.type == "A" else resource.type like "*"',
    'resource.type == (if resource.draft then "A" else "B")',
    "resource.labels.containsAny(resource.categories)",
    "principal.roles.containsAny(resource.labels)",
]


@settings(QUICK, max_examples=300)
@given(
    _texts_of_policies(st.one_of(_atoms(), _patient_atoms(), st.sampled_from(UNSAYABLE).map("({})".format))),
    st.sampled_from(range(len(CALLERS))),
)
def test_what_cannot_be_said_or_fails_never_shows_more_than_cedar_permits(text: str, caller: int) -> None:
    policies = Policies(text)
    reach = compiled(policies, caller)
    shown = [reach.fits(facets) for facets in WORLD]
    assert all(allowed for seen, allowed in zip(shown, permitted(policies, caller), strict=True) if seen)


def written(text: str) -> Any:
    (policy,) = Policies(text).written.values()
    return policy


@pytest.mark.parametrize("condition", UNSAYABLE[1:-1])
def test_what_cannot_be_said_is_found_whatever_is_asked_of_the_caller(condition: str) -> None:
    for before in ('principal.roles.contains("x") && ', "principal.suspended || ", ""):
        assert not can_be_said(written(f"permit (principal, action, resource) when {{ {before}({condition}) }};"))


@pytest.mark.parametrize(
    "head", ['resource == Record::"A/1"', 'resource in Record::"A/1"', 'resource is Record in Record::"A/1"']
)
def test_a_policy_on_one_record_cannot_be_said(head: str) -> None:
    assert not can_be_said(written(f"permit (principal, action, {head});"))


def test_what_cannot_be_said_permits_nothing_and_forbids_everything() -> None:
    vague = 'resource.type like "A*"'
    permit = "permit (principal, action, resource);"
    assert compiled(Policies(permit), 0) == EVERYTHING
    assert compiled(Policies(f"permit (principal, action, resource) when {{ {vague} }};"), 0) == NOTHING
    assert compiled(Policies(f"{permit} forbid (principal, action, resource) when {{ {vague} }};"), 0) == NOTHING


def test_a_condition_with_too_many_alternatives_is_one_that_cannot_be_said() -> None:
    many = " && ".join(
        f'(resource.labels.contains("a{n}") || resource.categories.containsAll(["b{n}", "c{n}"]))' for n in range(12)
    )
    text = f"permit (principal, action, resource) when {{ {many} }};"
    assert compiled(Policies(text), 0) == NOTHING
    assert not can_be_said(written(text))


def test_equal_conditions_in_other_words_are_equal_reaches() -> None:
    mine = "resource has patient && principal.patients.contains(resource.patient)"
    first = 'resource.patient == Patient::"p1"'
    second = 'resource has patient && resource.patient == Patient::"p2"'
    one = f"permit (principal, action, resource) when {{ {mine} }};"
    other = f"""permit (principal, action, resource) when {{ {second} }};
    permit (principal, action, resource) when {{ if resource has patient then {first} else false }};"""
    assert compiled(Policies(one), 0) == compiled(Policies(other), 0)
