"""An identity provider's keys: had from a real server, kept over its outages, asked for within bounds."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from bonfire.access.keys import (
    FRESH_SECONDS,
    MINIMUM_INTERVAL,
    STALE_SECONDS,
    HttpFetch,
    KeySet,
    Unfetchable,
    is_safe,
    parse_keys,
)
from bonfire_protocol.faults import Fault, FaultCode
from support.issuer import Issuer, issuing, jwk


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def issuer() -> AsyncIterator[Issuer]:
    async with issuing() as running:
        yield running


@pytest.fixture
async def fetch() -> AsyncIterator[HttpFetch]:
    made = HttpFetch(timeout=2.0, most_bytes=20_000)
    yield made
    await made.close()


@pytest.fixture
async def keys(issuer: Issuer, fetch: HttpFetch, clock: Clock) -> AsyncIterator[KeySet]:
    issuer.publish(jwk("RSA", "first"))
    made = KeySet(issuer.url, None, fetch, clock)
    yield made
    await made.close()


def refusal(keys: KeySet, kid: str, algorithm: str = "RS256") -> FaultCode:
    with pytest.raises(Fault) as refused:
        keys.find(kid, algorithm)
    return refused.value.code


async def test_keys_are_found_by_discovery_and_then_are_here(keys: KeySet, issuer: Issuer) -> None:
    await keys.prepare("first")
    assert keys.find("first", "RS256").key_id == "first"
    await keys.prepare("first")
    assert issuer.asked == ["/.well-known/openid-configuration", "/keys"]


async def test_a_url_that_is_given_needs_no_discovery(issuer: Issuer, fetch: HttpFetch, clock: Clock) -> None:
    issuer.publish(jwk("RSA", "first"))
    keys = KeySet("https://issuer.example", f"{issuer.url}/keys", fetch, clock)
    await keys.prepare("first")
    assert keys.find("first", "PS256").key_id == "first"
    assert issuer.asked == ["/keys"]


async def test_a_rotated_key_is_fetched_when_it_is_met_and_the_old_one_is_gone(
    keys: KeySet, issuer: Issuer, clock: Clock
) -> None:
    await keys.prepare("first")
    issuer.publish(jwk("RSA", "second"))
    clock.now += MINIMUM_INTERVAL
    await keys.prepare("second")
    assert keys.find("second", "RS256").key_id == "second"
    assert refusal(keys, "first") is FaultCode.unauthenticated


async def test_a_thousand_unknown_names_are_one_fetch(keys: KeySet, issuer: Issuer, clock: Clock) -> None:
    await keys.prepare("first")
    clock.now += MINIMUM_INTERVAL
    asked = len(issuer.asked)
    await asyncio.gather(*(keys.prepare(f"made up {number}") for number in range(1000)))
    await keys.prepare("made up afterwards")
    assert len(issuer.asked) == asked + 2
    assert refusal(keys, "made up 1") is FaultCode.unauthenticated


@pytest.mark.parametrize(
    "kid", ["../../etc/passwd", "/dev/null", "http://127.0.0.1:1/keys", "' or 1=1 --", "", "k" * 9999]
)
async def test_a_name_is_never_more_than_a_name(keys: KeySet, issuer: Issuer, kid: str) -> None:
    await keys.prepare(kid)
    assert refusal(keys, kid) is FaultCode.unauthenticated
    assert set(issuer.asked) == {"/.well-known/openid-configuration", "/keys"}


async def test_keys_outlive_an_outage_but_not_for_ever(keys: KeySet, issuer: Issuer, clock: Clock) -> None:
    await keys.prepare("first")
    issuer.status = 503
    clock.now += FRESH_SECONDS
    await keys.prepare("first")
    assert keys.find("first", "RS256").key_id == "first"
    clock.now += STALE_SECONDS
    await keys.prepare("first")
    assert refusal(keys, "first") is FaultCode.unavailable
    issuer.status = 200
    clock.now += MINIMUM_INTERVAL
    await keys.prepare("first")
    assert keys.find("first", "RS256").key_id == "first"


async def test_stale_keys_are_used_while_new_ones_are_on_their_way(keys: KeySet, issuer: Issuer, clock: Clock) -> None:
    await keys.prepare("first")
    issuer.hold = asyncio.Event()
    clock.now += FRESH_SECONDS
    await asyncio.wait_for(keys.prepare("first"), 0.5)
    assert keys.find("first", "RS256").key_id == "first"


async def test_an_unknown_key_during_an_outage_is_no_fault_of_the_caller(
    keys: KeySet, issuer: Issuer, clock: Clock
) -> None:
    await keys.prepare("first")
    issuer.status = 500
    clock.now += MINIMUM_INTERVAL
    await keys.prepare("second")
    assert refusal(keys, "second") is FaultCode.unavailable


def test_before_anything_was_fetched_nothing_can_be_told(fetch: HttpFetch, clock: Clock) -> None:
    assert refusal(KeySet("https://issuer.example", None, fetch, clock), "first") is FaultCode.unavailable


async def test_a_caller_who_gives_up_leaves_the_fetch_to_the_others(keys: KeySet, issuer: Issuer) -> None:
    issuer.hold = asyncio.Event()
    hasty, patient = asyncio.create_task(keys.prepare("first")), asyncio.create_task(keys.prepare("first"))
    await asyncio.sleep(0)
    hasty.cancel()
    issuer.hold.set()
    await patient
    assert keys.find("first", "RS256").key_id == "first"


async def test_a_slow_answer_is_given_up(issuer: Issuer, clock: Clock) -> None:
    issuer.hold = asyncio.Event()
    fetch = HttpFetch(timeout=0.1)
    with pytest.raises(Unfetchable, match="did not answer within"):
        await fetch(f"{issuer.url}/keys")
    await fetch.close()


async def test_a_huge_answer_is_not_read_to_its_end(issuer: Issuer, fetch: HttpFetch) -> None:
    issuer.answers["/keys"] = b"[" * 5_000_000
    with pytest.raises(Unfetchable, match="longer than 20000 bytes"):
        await fetch(f"{issuer.url}/keys")


async def test_a_redirect_is_not_followed(issuer: Issuer, fetch: HttpFetch) -> None:
    issuer.publish(jwk("RSA", "first"))
    issuer.status, issuer.headers = 302, {"Location": f"{issuer.url}/elsewhere"}
    with pytest.raises(Unfetchable, match="status 302"):
        await fetch(f"{issuer.url}/keys")
    assert issuer.asked == ["/keys"]


async def test_nobody_there_is_said_without_details(fetch: HttpFetch) -> None:
    with pytest.raises(Unfetchable, match="can't be reached"):
        await fetch("http://127.0.0.1:1/keys")


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>",
        b"[]",
        b"{}",
        b'{"keys": {}}',
        b'{"keys": []}',
        b'{"keys": [1, null, {"kid": 7}, {"kid": "a"}, {"kid": "a", "kty": "RSA"}]}',
        b"\xff\xfe",
        b"[" * 50_000,
        b'{"keys": [' + b"{}," * 200 + b"{}]}",
    ],
)
def test_what_is_no_set_of_keys_is_refused(body: bytes) -> None:
    with pytest.raises(Unfetchable):
        parse_keys(body)


async def test_a_malformed_answer_leaves_the_keys_from_before(keys: KeySet, issuer: Issuer, clock: Clock) -> None:
    await keys.prepare("first")
    issuer.answers["/keys"] = b"<html>maintenance</html>"
    clock.now += MINIMUM_INTERVAL
    await keys.prepare("unknown")
    assert keys.find("first", "RS256").key_id == "first"


@pytest.mark.parametrize(
    "told",
    [
        {"issuer": "https://elsewhere.example"},
        {"jwks_uri": None},
        {"jwks_uri": "http://keys.example/keys"},
        {"jwks_uri": "file:///etc/passwd"},
        {"jwks_uri": "https://user:word@keys.example/keys"},
        {"jwks_uri": 7},
    ],
)
async def test_a_configuration_that_leads_elsewhere_is_not_followed(
    keys: KeySet, issuer: Issuer, told: dict[str, Any]
) -> None:
    issuer.configure(**told)
    await keys.prepare("first")
    assert refusal(keys, "first") is FaultCode.unavailable
    assert issuer.asked == ["/.well-known/openid-configuration"]


@pytest.mark.parametrize(
    ("key", "usable"),
    [
        (jwk("RSA", "k"), {"RS256", "RS384", "RS512", "PS256", "PS384", "PS512"}),
        (jwk("RSA", "k", alg="RS256"), {"RS256"}),
        (jwk("P-256", "k"), {"ES256"}),
        (jwk("P-384", "k"), {"ES384"}),
        (jwk("Ed25519", "k"), {"EdDSA"}),
        (jwk("RSA", "k", use="enc"), set()),
        (jwk("RSA", "k", key_ops=["encrypt"]), set()),
        (jwk("RSA", "k", key_ops=7), set()),
        (jwk("RSA", "k", alg="HS256"), set()),
        (jwk("RSA", "k", alg="none"), set()),
        (jwk("RSA", "k", d="AQAB"), set()),
        (jwk("RSA", "k", n="!!"), set()),
        (jwk("RSA", "k", n=7), set()),
        (jwk("RSA", "k", kid=None), set()),
        (jwk("P-256", "k", alg="ES384"), set()),
        (jwk("P-256", "k", crv="P-384"), set()),
        (jwk("P-256", "k", crv="secp256k1"), set()),
        (jwk("P-256", "k", x="AA"), set()),
        (jwk("weak", "k"), set()),
        ({"kty": "oct", "kid": "k", "k": "c2VjcmV0LXNlY3JldC1zZWNyZXQtc2VjcmV0LXNlY3JldA"}, set()),
        ({"kty": "oct", "kid": "k", "alg": "HS256", "k": "c2VjcmV0LXNlY3JldC1zZWNyZXQtc2VjcmV0LXNlY3JldA"}, set()),
    ],
)
def test_only_what_checks_signatures_is_taken_from_a_set(key: dict[str, Any], usable: set[str]) -> None:
    found = parse_keys(json.dumps({"keys": [jwk("P-256", "other"), key]}).encode())
    assert {algorithm for kid, algorithm in found if kid == "k"} == usable


def test_a_key_is_for_its_own_algorithms(clock: Clock) -> None:
    found = parse_keys(json.dumps({"keys": [jwk("RSA", "k"), jwk("P-256", "e")]}).encode())
    assert ("k", "ES256") not in found
    assert ("e", "RS256") not in found


@pytest.mark.parametrize(
    ("url", "safe"),
    [
        ("https://issuer.example", True),
        ("http://127.0.0.1:9/keys", True),
        ("http://[::1]:9/keys", True),
        ("http://localhost/keys", True),
        ("http://issuer.example", False),
        ("http://127.0.0.1.example", False),
        ("http://localhost.example", False),
        ("https://a:b@issuer.example", False),
        ("ftp://127.0.0.1", False),
        ("https://", False),
        ("https://[", False),
    ],
)
def test_only_https_is_trusted_except_on_this_machine(url: str, safe: bool) -> None:
    assert is_safe(url) is safe
