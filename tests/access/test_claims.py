"""Claims: what each becomes, and that no wrong one, in a token that is well signed, is taken for anything."""

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bonfire.access.claims import ClaimNames, Rules, principal_of
from bonfire.access.identity import Identifier
from bonfire.access.principal import Principal
from bonfire_protocol.faults import Fault, FaultCode
from support.issuer import encoded

KEY = "a key of the operator of some forty characters"
NOW = datetime(2026, 3, 1, 9, 0, tzinfo=UTC)
AT = int(NOW.timestamp())
RULES = Rules("bonfire", "bonfire")
OURS = Identifier(lambda: NOW, shared_keys=[KEY])


def claims(**changes: Any) -> dict[str, Any]:
    told = {
        "iss": "bonfire",
        "aud": "bonfire",
        "sub": "u1",
        "tenant": "north",
        "name": "Dr. Amara Okafor",
        "roles": ["clinician"],
        "iat": AT,
        "exp": AT + 60,
    } | changes
    return {name: value for name, value in told.items() if value is not None}


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"name": None}, {"name": "u1"}),
        ({"name": "سارا\u200cبانو"}, {"name": "سارا\u200cبانو"}),
        ({"roles": "nurse auditor"}, {"roles": frozenset({"nurse", "auditor"})}),
        ({"roles": None}, {"roles": frozenset()}),
        ({"kind": "agent"}, {"kind": "agent"}),
        ({"patient": "p1"}, {"patient": "p1"}),
        ({"patient": "Patient/p1"}, {"patient": "p1"}),
        ({"purpose": "ETREAT"}, {"purpose": "ETREAT"}),
        ({"scope": "openid profile"}, {"scopes": None}),
        ({"scope": "openid patient/*.rs launch/patient"}, {"scopes": frozenset({"patient/*.rs", "launch/patient"})}),
        ({"scope": ["user/Observation.r"]}, {"scopes": frozenset({"user/Observation.r"})}),
        ({"behalf_of": "u9"}, {"behalf_of": "u9", "kind": "service"}),
        ({"behalf_of": "u9", "kind": "agent"}, {"behalf_of": "u9", "kind": "agent"}),
        (
            {"act": {"sub": "scribe", "name": "Scribe"}},
            {"user": "scribe", "name": "Scribe", "behalf_of": "u1", "kind": "service"},
        ),
        (
            {"act": {"sub": "scribe"}, "kind": "agent"},
            {"user": "scribe", "name": "scribe", "behalf_of": "u1", "kind": "agent"},
        ),
        ({"aud": ["elsewhere", "bonfire"]}, {}),
        ({"exp": AT + 60.9}, {}),
        ({"exp": AT - 59}, {"expires_at": AT + 1}),
        ({"iat": AT + 60}, {}),
        ({"nbf": AT + 60}, {}),
    ],
)
def test_what_a_token_says_of_its_caller(changes: dict[str, Any], expected: dict[str, Any]) -> None:
    whole: dict[str, Any] = {
        "tenant": "north",
        "user": "u1",
        "name": "Dr. Amara Okafor",
        "roles": frozenset({"clinician"}),
        "expires_at": AT + 120,
    }
    assert principal_of(claims(**changes), RULES, AT) == Principal(**(whole | expected))


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"iss": None}, "`iss` is missing"),
    ({"iss": "https://elsewhere.example"}, "`iss`"),
    ({"iss": ["bonfire"]}, "`iss`"),
    ({"iss": 7}, "`iss`"),
    ({"aud": None}, "`aud` is missing"),
    ({"aud": "elsewhere"}, "`aud`"),
    ({"aud": []}, "`aud`"),
    ({"aud": [7]}, "`aud`"),
    ({"aud": {"bonfire": True}}, "`aud`"),
    ({"sub": None}, "`sub` is missing"),
    ({"sub": ""}, "`sub` has to be text"),
    ({"sub": 7}, "`sub` has to be text"),
    ({"sub": "*"}, "`sub` has to be text"),
    ({"sub": " u1"}, "`sub` has to be text"),
    ({"sub": "u\x001"}, "`sub` has to be text"),
    ({"sub": "u" * 256}, "`sub` has to be text"),
    ({"sub": "\ud800"}, "`sub` has to be text"),
    ({"tenant": None}, "`tenant` is missing"),
    ({"tenant": ""}, "`tenant` has to be text"),
    ({"tenant": ["north", "south"]}, "`tenant` has to be text"),
    ({"tenant": "north\nsouth"}, "`tenant` has to be text"),
    ({"tenant": True}, "`tenant` has to be text"),
    ({"name": 7}, "`name` has to be text"),
    ({"name": ""}, "`name` has to be text"),
    ({"name": "  "}, "`name` has to be text"),
    ({"name": "a\nb"}, "`name` has to be text"),
    ({"name": "n" * 256}, "`name` has to be text"),
    ({"roles": 7}, "`roles` has to be a list"),
    ({"roles": [7]}, "`roles` has to be a list"),
    ({"roles": [""]}, "`roles` has to be a list"),
    ({"roles": ["r"] * 101}, "`roles` has to be a list"),
    ({"roles": {"clinician": True}}, "`roles` has to be a list"),
    ({"kind": "robot"}, "`kind` has to be one of"),
    ({"kind": ["person"]}, "`kind` has to be one of"),
    ({"patient": "../p1"}, "`patient` has to be"),
    ({"patient": 1}, "`patient` has to be"),
    ({"purpose": "treat"}, "`purpose` has to be"),
    ({"purpose": []}, "`purpose` has to be"),
    ({"scope": {"patient/*.rs": 1}}, "`scope` has to be a list"),
    ({"behalf_of": 7}, "`behalf_of` has to be text"),
    ({"behalf_of": ""}, "`behalf_of` has to be text"),
    ({"act": "scribe"}, "`act` has to be an object"),
    ({"act": {}}, "`act.sub` is missing"),
    ({"act": {"sub": 7}}, "`act.sub` has to be text"),
    ({"act": {"sub": "a", "name": 7}}, "`act.name` has to be text"),
    ({"act": {"sub": "a"}, "behalf_of": "b"}, "both say on whose behalf"),
    ({"exp": None}, "`exp` is missing"),
    ({"exp": AT - 60}, "expired (`exp`)"),
    ({"exp": "never"}, "`exp` has to be a time"),
    ({"exp": True}, "`exp` has to be a time"),
    ({"exp": float("nan")}, "`exp` has to be a time"),
    ({"exp": float("inf")}, "`exp` has to be a time"),
    ({"exp": 10**400}, "`exp` has to be a time"),
    ({"exp": -1}, "`exp` has to be a time"),
    ({"exp": [AT + 60]}, "`exp` has to be a time"),
    ({"iat": None}, "`iat` is missing"),
    ({"iat": "now"}, "`iat` has to be a time"),
    ({"iat": AT + 61}, "issued in the future (`iat`)"),
    ({"nbf": AT + 61}, "not valid yet (`nbf`)"),
    ({"nbf": "soon"}, "`nbf` has to be a time"),
]


@pytest.mark.parametrize(("changes", "reason"), WRONG)
def test_a_claim_that_is_wrong_is_named_and_nothing_of_the_token_is(changes: dict[str, Any], reason: str) -> None:
    token = encoded(claims(**changes), KEY, "HS256")
    with pytest.raises(Fault) as refused:
        OURS.decide(token)
    assert (refused.value.code, refused.value.field) == (FaultCode.unauthenticated, "token")
    assert reason in refused.value.message
    told = f"{refused.value.message} {refused.value.expected} {refused.value.got}"
    assert all(part not in told for part in token.split("."))
    assert all(str(value) not in told for value in changes.values() if len(str(value)) > 4)


@pytest.mark.parametrize(("changes", "reason"), WRONG)
def test_claims_that_go_by_other_names_are_held_to_the_same(changes: dict[str, Any], reason: str) -> None:
    kept = {"iss", "aud", "exp", "iat", "nbf", "act"}
    renamed = {name if name in kept else f"my_{name}": value for name, value in claims(**changes).items()}
    names = ClaimNames(
        tenant="my_tenant",
        user="my_sub",
        name="my_name",
        roles="my_roles",
        kind="my_kind",
        patient="my_patient",
        purpose="my_purpose",
        scope="my_scope",
        behalf_of="my_behalf_of",
    )
    with pytest.raises(Fault):
        principal_of(renamed, Rules("bonfire", "bonfire", names), AT)


def test_a_name_with_dots_is_a_path_unless_there_is_a_claim_of_that_name() -> None:
    rules = Rules("bonfire", "bonfire", ClaimNames(roles="realm_access.roles"))
    nested = {"realm_access": {"roles": ["nurse"]}}
    assert principal_of(claims(**nested), rules, AT).roles == frozenset({"nurse"})
    flat = {"realm_access.roles": ["auditor"]}
    assert principal_of(claims(**nested, **flat), rules, AT).roles == frozenset({"auditor"})
    assert principal_of(claims(realm_access=7), rules, AT).roles == frozenset()


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=8,
)


@given(st.dictionaries(st.sampled_from([*claims(), "act", "kind", "patient", "scope", "nbf", "purpose"]), ANYTHING))
def test_no_claims_do_more_than_be_refused_or_name_somebody(changes: dict[str, Any]) -> None:
    token = encoded(claims() | changes, KEY, "HS256")
    found: Principal | Fault
    try:
        found = OURS.decide(token)
    except Fault as fault:
        found = fault
    if isinstance(found, Fault):
        assert found.code is FaultCode.unauthenticated
    else:
        assert found.tenant
        assert found.user
        assert found.expires_at is not None
