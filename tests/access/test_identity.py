"""Tokens: what they prove, and what a refusal says. Each wrong in one thing, by each issuer."""

import base64
import hashlib
import hmac
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given
from hypothesis import strategies as st

from bonfire.access.claims import ClaimNames, Rules
from bonfire.access.identity import MOST_TOKEN_CHARACTERS, Identifier, Provider, development_principal
from bonfire.access.keys import FRESH_SECONDS, HttpFetch, KeySet
from bonfire.access.minting import mint
from bonfire.access.principal import Principal
from bonfire_protocol.faults import Fault, FaultCode
from support.issuer import Issuer, encoded, issuing, jwk, private_key, signed

KEY = "a key of the operator of some forty characters"
DEVELOPMENT_KEY = "bonfire-dev-" + "d" * 64
NOW = datetime(2026, 3, 1, 9, 0, tzinfo=UTC)
AT = int(NOW.timestamp())
AUDIENCE = "https://bonfire.clinic.example"


@pytest.fixture
async def issuer() -> AsyncIterator[Issuer]:
    async with issuing() as running:
        running.publish(jwk("RSA", "rsa"), jwk("P-256", "ec"), jwk("Ed25519", "ed"), jwk("RSA", "only", alg="RS256"))
        yield running


def provider(issuer: Issuer, fetch: HttpFetch, names: ClaimNames | None = None) -> Provider:
    keys = KeySet(issuer.url, None, fetch, lambda: 1000.0)
    return Provider(Rules(issuer.url, AUDIENCE, names or ClaimNames()), keys)


@pytest.fixture
async def identifier(issuer: Issuer) -> AsyncIterator[Identifier]:
    """A production server's: it trusts the provider and the operator's key."""
    fetch = HttpFetch()
    made = Identifier(lambda: NOW, provider=provider(issuer, fetch), shared_keys=[KEY])
    yield made
    await made.close()
    await fetch.close()


def claims(issuer: Issuer | None, **changes: Any) -> dict[str, Any]:
    told = {
        "iss": "bonfire" if issuer is None else issuer.url,
        "aud": "bonfire" if issuer is None else AUDIENCE,
        "sub": "u1",
        "tenant": "north",
        "name": "Dr. Amara Okafor",
        "roles": ["clinician"],
        "iat": AT,
        "exp": AT + 60,
    } | changes
    return {name: value for name, value in told.items() if value is not None}


async def refusal(identifier: Identifier, token: str) -> Fault:
    with pytest.raises(Fault) as refused:
        await identifier.identify(token)
    assert refused.value.field == "token"
    told = " ".join(filter(None, (refused.value.message, refused.value.expected, refused.value.got)))
    for part in token.split("."):
        assert len(part) < 8 or part not in told
    return refused.value


def whole(**changes: Any) -> Principal:
    told: dict[str, Any] = {
        "tenant": "north",
        "user": "u1",
        "name": "Dr. Amara Okafor",
        "roles": frozenset({"clinician"}),
        "expires_at": AT + 120,
    } | changes
    return Principal(**told)


# ---- good ones --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "name", "algorithm"),
    [
        ("RSA", "rsa", "RS256"),
        ("RSA", "rsa", "RS512"),
        ("RSA", "rsa", "PS256"),
        ("P-256", "ec", "ES256"),
        ("Ed25519", "ed", "EdDSA"),
    ],
)
async def test_the_providers_token_names_its_caller(
    identifier: Identifier, issuer: Issuer, kind: str, name: str, algorithm: str
) -> None:
    assert await identifier.identify(signed(claims(issuer), kind, name, algorithm)) == whole()


async def test_a_token_of_ours_names_its_caller_and_nobody_is_asked_for_keys(
    identifier: Identifier, issuer: Issuer
) -> None:
    token = mint(KEY, tenant="north", user="importer", name="Importer", now=NOW, kind="service", roles=["importer"])
    found = await identifier.identify(token, "north")
    assert (found.user, found.kind, found.roles) == ("importer", "service", frozenset({"importer"}))
    assert issuer.asked == []


async def test_known_keys_are_decided_by_without_waiting(identifier: Identifier, issuer: Issuer) -> None:
    token = signed(claims(issuer), "RSA", "rsa", "RS256")
    with pytest.raises(Fault) as early:
        identifier.decide(token)
    assert early.value.code is FaultCode.unavailable
    await identifier.prepare(token)
    assert identifier.decide(token) == whole()


async def test_the_provider_may_call_its_claims_as_it_likes(issuer: Issuer) -> None:
    fetch = HttpFetch()
    names = ClaimNames(tenant="https://clinic.example/tenant", roles="realm_access.roles", user="oid")
    identifier = Identifier(lambda: NOW, provider=provider(issuer, fetch, names))
    told = {"tenant": None, "https://clinic.example/tenant": "south", "oid": "u7", "roles": ["not these"]}
    token = signed(claims(issuer, **told, realm_access={"roles": ["nurse"]}), "P-256", "ec", "ES256")
    found = await identifier.identify(token)
    assert (found.tenant, found.user, found.roles) == ("south", "u7", frozenset({"nurse"}))
    missing = signed(claims(issuer, **told, realm_access=7), "P-256", "ec", "ES256")
    assert (await identifier.identify(missing)).roles == frozenset()
    await identifier.close()
    await fetch.close()


async def test_a_token_that_was_good_is_so_until_it_ends(issuer: Issuer) -> None:
    now = NOW
    fetch = HttpFetch()
    identifier = Identifier(lambda: now, provider=provider(issuer, fetch), shared_keys=[KEY])
    tokens = [signed(claims(issuer), "P-256", "ec", "ES256"), encoded(claims(None), KEY, "HS256")]
    for token in tokens:
        first = await identifier.identify(token)
        assert await identifier.identify(token) is first
        with pytest.raises(Fault) as elsewhere:
            await identifier.identify(token, "south")
        assert elsewhere.value.code is FaultCode.forbidden
    now = NOW + timedelta(seconds=120)
    for token in tokens:
        assert "expired" in (await refusal(identifier, token)).message
    # A clock that was set back proves nothing more.
    now = NOW - timedelta(seconds=61)
    for token in tokens:
        assert "issued in the future" in (await refusal(identifier, token)).message
    await identifier.close()
    await fetch.close()


async def test_a_token_ends_with_the_key_that_signed_it(issuer: Issuer) -> None:
    at = 1000.0
    fetch = HttpFetch()
    keys = KeySet(issuer.url, None, fetch, lambda: at)
    identifier = Identifier(lambda: NOW, provider=Provider(Rules(issuer.url, AUDIENCE), keys))
    token = signed(claims(issuer), "P-256", "ec", "ES256")
    await identifier.identify(token)
    # The same name, and another key.
    issuer.publish(jwk("P-256", "thief", kid="ec"))
    at += FRESH_SECONDS
    await identifier.prepare(signed(claims(issuer), "P-256", "new", "ES256"))
    assert "signature" in (await refusal(identifier, token)).message
    await identifier.close()
    await fetch.close()


def test_what_is_remembered_of_tokens_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bonfire.access.identity._MOST_SEEN", 2)
    identifier = Identifier(lambda: NOW, shared_keys=[KEY])
    tokens = [mint(KEY, tenant="t", user=user, name="n", now=NOW) for user in "abc"]
    first, second, _ = [identifier.decide(token) for token in tokens]
    assert identifier.decide(tokens[1]) is second
    assert identifier.decide(tokens[0]) is not first


# ---- wrong ones -------------------------------------------------------------------------------------------------


def spelled(*parts: object) -> str:
    """A token of these header and claims, unsigned."""
    return ".".join(_base64(json.dumps(part).encode()) for part in parts)


def _base64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def confused(issuer: Issuer, form: PublicFormat, encoding: Encoding) -> str:
    """Signed by HMAC, with the provider's public key as the secret: the classic confusion of algorithms."""
    secret = private_key("RSA", "rsa").public_key().public_bytes(encoding, form)
    head = spelled({"alg": "HS256", "kid": "rsa", "typ": "JWT"}, claims(issuer))
    return f"{head}.{_base64(hmac.new(secret, head.encode(), hashlib.sha256).digest())}"


async def test_no_algorithm_can_be_taken_for_another(identifier: Identifier, issuer: Issuer) -> None:
    signature = _base64(b"x" * 32)
    refused = {
        "none": spelled({"alg": "none", "kid": "rsa"}, claims(issuer)) + ".",
        "None": spelled({"alg": "None", "kid": "rsa"}, claims(issuer)) + ".",
        "ours, none": spelled({"alg": "none"}, claims(None)) + ".",
        "a list": spelled({"alg": ["RS256"], "kid": "rsa"}, claims(issuer)) + f".{signature}",
        "no alg": spelled({"kid": "rsa"}, claims(issuer)) + f".{signature}",
        "HS by the public key (PEM)": confused(issuer, PublicFormat.SubjectPublicKeyInfo, Encoding.PEM),
        "HS by the public key (PKCS1)": confused(issuer, PublicFormat.PKCS1, Encoding.PEM),
        "HS by the public key (DER)": confused(issuer, PublicFormat.SubjectPublicKeyInfo, Encoding.DER),
        "the provider's by our secret": encoded(claims(issuer), KEY, "HS256", kid="rsa"),
        "ours by HS512": encoded(claims(None), KEY + KEY, "HS512"),
        "ours by the provider's key": signed(claims(None), "RSA", "rsa", "RS256"),
        "RS by a key for ES": signed(claims(issuer), "RSA", "ec", "RS256"),
        "PS by a key for RS only": signed(claims(issuer), "RSA", "only", "PS256"),
    }
    for what, token in refused.items():
        fault = await refusal(identifier, token)
        assert fault.code is FaultCode.unauthenticated, what
        assert "`alg`" in fault.message, what


async def test_a_signature_by_anyone_else_is_refused(identifier: Identifier, issuer: Issuer) -> None:
    good = signed(claims(issuer), "P-256", "ec", "ES256")
    head, body, signature = good.split(".")
    other = signed(claims(issuer, tenant="south"), "P-256", "ec", "ES256").split(".")
    refused = {
        "another key under the name": signed(claims(issuer), "P-256", "thief", "ES256", kid="ec"),
        "other claims": f"{head}.{other[1]}.{signature}",
        "no signature": f"{head}.{body}.",
        "an empty point": f"{head}.{body}.{_base64(bytes(64))}",
        "ours by another secret": encoded(claims(None), KEY[::-1], "HS256"),
        "a key that the token brings": signed(
            claims(issuer), "P-256", "thief", "ES256", kid="ec", jwk=jwk("P-256", "thief")
        ),
        "a key that the token points to": signed(
            claims(issuer), "P-256", "thief", "ES256", kid="ec", jku=f"{issuer.url}/thief", x5u=f"{issuer.url}/thief"
        ),
    }
    for what, token in refused.items():
        fault = await refusal(identifier, token)
        assert fault.code is FaultCode.unauthenticated, what
        assert "signature" in fault.message, what
    assert set(issuer.asked) == {"/.well-known/openid-configuration", "/keys"}


@pytest.mark.parametrize(
    ("header", "reason"),
    [
        ({"kid": None}, "`kid`"),
        ({"kid": "unknown"}, "`kid`"),
        ({"kid": "../../dev/null"}, "`kid`"),
        ({"kid": "rsa\x00"}, "`kid`"),
        ({"typ": "logout+jwt"}, "`typ`"),
        ({"typ": "dpop+jwt"}, "`typ`"),
        ({"typ": 7}, "`typ`"),
        ({"crit": ["exp"]}, "no JSON web token"),
        ({"crit": "b64"}, "no JSON web token"),
        ({"b64": False, "crit": ["b64"]}, "no JSON web token"),
    ],
)
async def test_a_header_that_is_wrong_is_refused(
    identifier: Identifier, issuer: Issuer, header: dict[str, Any], reason: str
) -> None:
    told = {"alg": "ES256", "kid": "ec", "typ": "JWT"} | header
    head = spelled({name: value for name, value in told.items() if value is not None}, claims(issuer))
    fault = await refusal(identifier, f"{head}.{_base64(b'x' * 64)}")
    assert fault.code is FaultCode.unauthenticated
    assert reason in fault.message


async def test_what_is_no_token_is_refused(identifier: Identifier, issuer: Issuer) -> None:
    good = signed(claims(issuer), "P-256", "ec", "ES256")
    rubbish = [
        "rubbish-with-a-secret",
        ".",
        "..",
        "....",
        " ",
        good + "ü",
        good + "\x00",
        good + ".more",
        f"{good} {good}",
        spelled([], {}) + ".x",
        spelled({"alg": "HS256"}, ["iss"]) + ".x",
        spelled({"alg": "HS256"}, "bonfire") + ".x",
        "e30.e30.",
        "bm9uc2Vuc2U.bm9uc2Vuc2U.bm9uc2Vuc2U",
        f"{_base64(b'[' * 9000)}.e30.eHg",
        f"{_base64(b'{}')}.{_base64(b'[' * 9000)}.eHg",
        f"{_base64(b'{}')}.{_base64(bytes([0xFF, 0xFE]))}.eHg",
        *(good[:length] for length in range(1, len(good) - 1, 11)),
    ]
    for token in rubbish:
        fault = await refusal(identifier, token)
        assert fault.code is FaultCode.unauthenticated


async def test_a_huge_token_is_not_looked_into(identifier: Identifier, issuer: Issuer) -> None:
    token = signed(claims(issuer, padding="x" * MOST_TOKEN_CHARACTERS), "P-256", "ec", "ES256")
    assert "longer than" in (await refusal(identifier, token)).message
    assert issuer.asked == []


OURS = Identifier(lambda: NOW, shared_keys=[KEY])


@given(st.text() | st.from_regex(r"[A-Za-z0-9_=-]*\.[A-Za-z0-9_=-]*\.[A-Za-z0-9_=-]*", fullmatch=True))
def test_no_text_does_more_than_be_refused(token: str) -> None:
    with pytest.raises(Fault) as refused:
        OURS.decide(token)
    assert refused.value.code is FaultCode.unauthenticated


# ---- who is trusted ---------------------------------------------------------------------------------------------


async def test_without_a_token_nobody_is_known(identifier: Identifier) -> None:
    with pytest.raises(Fault, match="a token is needed") as refused:
        await identifier.identify(None)
    assert refused.value.code is FaultCode.unauthenticated


async def test_a_token_for_another_tenant_is_forbidden(identifier: Identifier) -> None:
    token = mint(KEY, tenant="north", user="u1", name="A", now=NOW)
    with pytest.raises(Fault) as refused:
        await identifier.identify(token, "south")
    assert refused.value.code is FaultCode.forbidden


async def test_a_server_trusts_only_whom_it_was_told_to(issuer: Issuer) -> None:
    nobody = Identifier(lambda: NOW)
    for token in (mint(KEY, tenant="t", user="u", name="n", now=NOW), signed(claims(issuer), "RSA", "rsa", "RS256")):
        assert "`iss`" in (await refusal(nobody, token)).message
    assert issuer.asked == []


async def test_two_keys_are_taken_while_one_takes_the_others_place() -> None:
    both = Identifier(lambda: NOW, shared_keys=["n" * 32, "o" * 32])
    for key in ("n" * 32, "o" * 32):
        assert (await both.identify(mint(key, tenant="t", user="u", name="n", now=NOW))).user == "u"
    assert "signature" in (await refusal(both, mint("x" * 32, tenant="t", user="u", name="n", now=NOW))).message


async def test_development_tokens_are_for_development_only(identifier: Identifier) -> None:
    token = mint(DEVELOPMENT_KEY, tenant="north", user="u1", name="A", now=NOW, roles=["nurse"])
    developing = Identifier(lambda: NOW, development_key=lambda: DEVELOPMENT_KEY)
    assert (await developing.identify(token)).roles == {"nurse"}
    assert "development token" in (await refusal(identifier, token)).message
    # Nor may an operator who was careless with a key have them taken by it.
    careless = Identifier(lambda: NOW, shared_keys=[DEVELOPMENT_KEY])
    assert "development token" in (await refusal(careless, token)).message
    elsewhere = Identifier(lambda: NOW, development_key=lambda: None)
    assert "another data folder" in (await refusal(elsewhere, token)).message
    other = Identifier(lambda: NOW, development_key=lambda: "bonfire-dev-" + "e" * 64)
    assert "signature" in (await refusal(other, token)).message


async def test_development_has_one_user_who_may_do_much_in_the_tenant_that_is_named() -> None:
    developing = Identifier(lambda: NOW, development_key=lambda: None)
    assert await developing.identify(None) == development_principal(None)
    assert development_principal(None).tenant == "default"
    assert development_principal("north").tenant == "north"
    assert development_principal(None).roles == {"clinician", "administrator"}
    # A token that was shown counts, even there.
    assert (await refusal(developing, "rubbish")).code is FaultCode.unauthenticated


def test_a_short_key_is_an_error_of_the_operator() -> None:
    with pytest.raises(ValueError, match="32 bytes"):
        Identifier(lambda: NOW, shared_keys=["short"])
