"""SMART scopes: how they are read, and what they leave of what a caller may do."""

import pytest

from bonfire.access.facets import app_state_facets, facets_of
from bonfire.access.principal import Kind, Principal
from bonfire.access.scopes import Bound, Scope, parse_scope
from bonfire.store.reach import EVERYTHING, NOTHING


@pytest.mark.parametrize(
    ("text", "scope"),
    [
        ("patient/*.rs", Scope("patient", "*", frozenset("rs"))),
        ("user/Observation.cruds", Scope("user", "Observation", frozenset("cruds"))),
        ("system/Patient.r", Scope("system", "Patient", frozenset("r"))),
        ("patient/*.read", Scope("patient", "*", frozenset("rs"))),
        ("user/*.write", Scope("user", "*", frozenset("cud"))),
        ("user/*.*", Scope("user", "*", frozenset("cruds"))),
        (
            "user/Observation.rs?category=laboratory",
            Scope("user", "Observation", frozenset("rs"), frozenset(["laboratory"])),
        ),
        (
            "user/Observation.rs?category=http://terminology.hl7.org/CodeSystem/observation-category|vital-signs,survey",
            Scope("user", "Observation", frozenset("rs"), frozenset(["vital-signs", "survey"])),
        ),
    ],
)
def test_scopes_about_records(text: str, scope: Scope) -> None:
    assert parse_scope(text) == scope


@pytest.mark.parametrize(
    "text",
    [
        "openid", "fhirUser", "launch/patient", "offline_access", "", "patient/", "patient/*.", "patient/*.x",
        "patient/*.sr", "patient/*.rr", "patient/observation.rs", "Patient/*.rs", " patient/*.rs", "patient/*.rs\n",
        "clinic/*.rs", "user/Observation.rs?code=1234-5", "user/Observation.rs?category=a&category=b",
        "user/Observation.rs?category=", "user/Observation.rs?category=x|", "user/Observation.rs?",
        "user/*.rs?category",
    ],
)  # fmt: skip
def test_what_is_no_scope_about_records_or_cannot_be_kept_allows_nothing(text: str) -> None:
    assert parse_scope(text) is None
    assert bound(text).reach("read") == NOTHING


def bound(*scopes: str, kind: Kind = "person", patient: str | None = "p1") -> Bound:
    return Bound(Principal("t", "u1", "One", kind=kind, patient=patient, scopes=frozenset(scopes)))


def observation(patient: str, category: str = "laboratory") -> frozenset[str]:
    resource = {"subject": {"reference": f"Patient/{patient}"}, "category": [{"coding": [{"code": category}]}]}
    return facets_of("Observation", "o1", resource)


PRACTITIONER = facets_of("Practitioner", "d1", {})
STATE = app_state_facets("settings", "u1", None)


def test_without_scopes_nothing_is_bound() -> None:
    free = Bound(Principal("t", "u1", "One"))
    assert free.reach("read") == EVERYTHING
    assert free.allows("sign", observation("p2"))
    assert all(free.allows_road(action) for action in ("search", "administer", "breakGlass", "call"))


def test_scopes_of_no_kind_that_is_about_records_allow_nothing() -> None:
    assert bound().reach("read") == NOTHING
    assert bound("openid", "profile").reach("read") == NOTHING
    assert not bound("openid").allows_road("search")


@pytest.mark.parametrize(
    ("scope", "action", "facets", "allowed"),
    [
        ("patient/*.rs", "read", observation("p1"), True),
        ("patient/*.rs", "read", observation("p2"), False),
        ("patient/*.rs", "download", observation("p1"), True),
        ("patient/*.rs", "create", observation("p1"), False),
        ("patient/*.rs", "read", PRACTITIONER, True),
        ("patient/*.cruds", "update", PRACTITIONER, False),
        ("patient/*.cruds", "update", observation("p1"), True),
        ("patient/Condition.rs", "read", observation("p1"), False),
        ("patient/Observation.s", "read", observation("p1"), False),
        ("user/Observation.r", "read", observation("p2"), True),
        ("user/Observation.u", "sign", observation("p2"), True),
        ("user/Observation.crds", "sign", observation("p2"), False),
        ("user/Observation.d", "delete", observation("p2"), True),
        ("user/*.rs?category=laboratory", "read", observation("p2"), True),
        ("user/*.rs?category=survey", "read", observation("p2"), False),
        ("user/*.rs", "read", STATE, True),
        ("user/AppState.u", "update", STATE, True),
        ("system/*.cruds", "read", observation("p1"), False),
    ],
)
def test_what_a_scope_lets_be_done(scope: str, action: str, facets: frozenset[str], allowed: bool) -> None:
    assert bound(scope).allows(action, facets) is allowed
    if action == "read":
        assert bound(scope).cut(EVERYTHING).fits(facets) is allowed


def test_scopes_add_up() -> None:
    both = bound("patient/Observation.rs", "user/Condition.rs", "openid")
    assert both.allows("read", observation("p1"))
    assert both.allows("read", facets_of("Condition", "c1", {"subject": {"reference": "Patient/p9"}}))
    assert not both.allows("read", observation("p9"))


def test_whose_scopes_they_are() -> None:
    assert bound("system/*.rs", kind="service").allows("read", observation("p2"))
    assert not bound("user/*.rs", kind="service").allows("read", observation("p2"))
    assert bound("user/*.rs", kind="agent").allows("read", observation("p2"))
    assert not bound("patient/*.rs", patient=None).allows("read", PRACTITIONER)


@pytest.mark.parametrize(
    ("scope", "roads"),
    [
        ("user/*.rs", {"call", "search", "subscribe", "sql", "export"}),
        ("user/*.r", {"call"}),
        ("user/*.s", {"call", "search"}),
        ("user/*.c", {"call", "upload"}),
        ("openid", {"call"}),
        ("user/*.cruds", {"call", "search", "subscribe", "sql", "export", "upload"}),
    ],
)
def test_roads(scope: str, roads: set[str]) -> None:
    every = ["call", "search", "subscribe", "sql", "export", "upload", "administer", "breakGlass"]
    assert {action for action in every if bound(scope).allows_road(action)} == roads
