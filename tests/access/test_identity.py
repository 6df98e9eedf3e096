"""Tokens: what they prove, and what a refusal says."""

from datetime import UTC, datetime, timedelta
from typing import Any

import jwt
import pytest

from bonfire.access.identity import authenticate, development_principal, mint
from bonfire.access.principal import Principal
from bonfire_protocol.faults import Fault, FaultCode

KEY = "a development key of some forty characters"
NOW = datetime(2026, 3, 1, 9, 0, tzinfo=UTC)


def token(**changes: Any) -> str:
    claims = {
        "iss": "bonfire",
        "aud": "bonfire",
        "sub": "u1",
        "tenant": "north",
        "name": "Dr. Amara Okafor",
        "iat": int(NOW.timestamp()),
        "exp": int(NOW.timestamp()) + 60,
    } | changes
    return jwt.encode({name: value for name, value in claims.items() if value is not None}, KEY, algorithm="HS256")


def test_a_minted_token_names_its_caller() -> None:
    minted = mint(KEY, tenant="north", user="u1", name="Dr. Amara Okafor", now=NOW)
    assert authenticate(minted, KEY, NOW) == Principal(tenant="north", user="u1", name="Dr. Amara Okafor")


def test_a_token_expires_by_the_clock_that_is_passed_in() -> None:
    minted = mint(KEY, tenant="north", user="u1", name="A", now=NOW, lifetime=timedelta(minutes=5))
    assert authenticate(minted, KEY, NOW + timedelta(minutes=5) - timedelta(seconds=1)).user == "u1"
    with pytest.raises(Fault, match="expired"):
        authenticate(minted, KEY, NOW + timedelta(minutes=5))


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"iss": "somebody"}, "issuer"),
        ({"aud": "elsewhere"}, "audience"),
        ({"sub": None}, "`sub` is missing"),
        ({"tenant": None}, "`tenant` is missing"),
        ({"exp": None}, "`exp` is missing"),
        ({"exp": "never"}, "token is refused"),
        ({"tenant": 7}, "have to be text"),
        ({"tenant": ""}, "have to be text"),
        ({"nbf": int(NOW.timestamp()) + 30}, "not valid yet"),
    ],
)
def test_a_wrong_claim_is_refused_with_its_reason(changes: dict[str, Any], reason: str) -> None:
    with pytest.raises(Fault, match=reason) as refused:
        authenticate(token(**changes), KEY, NOW)
    assert refused.value.code is FaultCode.unauthenticated
    assert refused.value.field == "token"


def test_a_token_without_a_name_goes_by_its_user() -> None:
    assert authenticate(token(name=None), KEY, NOW).name == "u1"


def test_another_key_another_algorithm_and_rubbish_are_refused() -> None:
    with pytest.raises(Fault, match="another key"):
        authenticate(token(), KEY[::-1], NOW)
    unsigned = jwt.encode({"sub": "u1"}, None, algorithm="none")
    with pytest.raises(Fault, match="HS256"):
        authenticate(unsigned, KEY, NOW)
    with pytest.raises(Fault, match="no JSON web token") as refused:
        authenticate("rubbish-with-a-secret", KEY, NOW)
    assert "rubbish" not in str(refused.value)


def test_a_short_key_is_an_error_of_the_operator() -> None:
    with pytest.raises(ValueError, match="32 bytes"):
        mint("short", tenant="t", user="u", name="n", now=NOW)
    with pytest.raises(ValueError, match="32 bytes"):
        authenticate(token(), "short", NOW)


def test_development_has_one_user_in_the_tenant_that_is_named() -> None:
    assert development_principal(None) == Principal(tenant="default", user="demo", name="Demo Clinician")
    assert development_principal("north").tenant == "north"
