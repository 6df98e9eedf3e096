"""The public keys of an identity provider (a JWKS), fetched, kept, and fetched anew as the provider rotates them.

A token is checked with keys that are here already, without waiting; only one signed with a key that is not waits for a
fetch. What strangers can make this do is bounded: one fetch at a time, none within seconds of the last whatever they
send, and no URL, path or key is ever taken from a token.
"""

import asyncio
import ipaddress
import logging
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import urlsplit

import httpx
import msgspec
from jwt import PyJWK
from jwt.exceptions import PyJWTError

from bonfire.access.claims import refused
from bonfire_protocol.faults import Fault, FaultCode

log = logging.getLogger("bonfire.keys")

Fetch = Callable[[str], Awaitable[bytes]]
"""From a URL to what is there. Unfetchable says why there is nothing."""

FRESH_SECONDS = 300.0
"""How long keys are used before they are fetched again, beside the callers. A key that the provider withdraws is
trusted for so long."""

STALE_SECONDS = 24 * 3600.0
"""How long keys are used while the provider can't be reached."""

MINIMUM_INTERVAL = 10.0
"""No two fetches begin within so many seconds."""

TIMEOUT = 5.0
MOST_BYTES = 256 * 1024
_MOST_KEYS = 100
_MOST_KID = 255

_RSA = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512")
_CURVES = {"P-256": "ES256", "P-384": "ES384", "P-521": "ES512", "Ed25519": "EdDSA"}
ALGORITHMS = frozenset({*_RSA, *_CURVES.values()})
"""Asymmetric ones only: with a symmetric one, a public key would be the secret."""


class Unfetchable(Exception):
    """There is no answer that can be used. The message says why, and quotes nothing of what came."""


class HttpFetch:
    """GETs of small documents by httpx: it is bounded in time as a whole and stops reading where an answer gets too
    long, neither of which PyJWT's own client (urllib in a thread) can be told. Redirects are not followed."""

    def __init__(self, *, timeout: float = TIMEOUT, most_bytes: int = MOST_BYTES) -> None:
        self._timeout = timeout
        self._most = most_bytes
        # Uncompressed, so that the bound holds for what is read.
        headers = {"Accept": "application/json", "Accept-Encoding": "identity"}
        trusted = httpx.create_ssl_context()
        self._client = httpx.AsyncClient(timeout=timeout, verify=trusted, headers=headers)
        # A proxy of the environment's would be asked for its own loopback.
        self._near = httpx.AsyncClient(timeout=timeout, verify=trusted, trust_env=False, headers=headers)

    async def __call__(self, url: str) -> bytes:
        client = self._near if is_loopback(url) else self._client
        body = bytearray()
        try:
            async with asyncio.timeout(self._timeout), client.stream("GET", url) as answer:
                if answer.status_code != 200:
                    raise Unfetchable(f"it answered with status {answer.status_code}")
                async for part in answer.aiter_raw():
                    body += part
                    if len(body) > self._most:
                        raise Unfetchable(f"its answer is longer than {self._most} bytes")
        except (TimeoutError, httpx.TimeoutException):
            raise Unfetchable(f"it did not answer within {self._timeout:g} seconds") from None
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise Unfetchable(f"it can't be reached ({type(error).__name__})") from None
        return bytes(body)

    async def close(self) -> None:
        await self._client.aclose()
        await self._near.aclose()


class KeySet:
    """The keys of one issuer. `clock` counts seconds, and never goes back."""

    def __init__(self, issuer: str, url: str | None, fetch: Fetch, clock: Callable[[], float]) -> None:
        """`url` is where the keys are; None: it is looked up in the issuer's OpenID configuration each time."""
        self._issuer = issuer
        self._url = url
        self._fetch = fetch
        self._clock = clock
        self._keys: dict[tuple[str, str], PyJWK] = {}
        self._kids: frozenset[str] = frozenset()
        self._fetched_at: float | None = None
        self._tried_at: float | None = None
        self._failing = False
        self._fetching: asyncio.Task[None] | None = None

    def find(self, kid: str, algorithm: str) -> PyJWK:
        """The key of that name, for that algorithm. Fault unauthenticated when the issuer has none; unavailable when
        that can't be told, because the issuer can't be reached."""
        if self._holds(kid):
            key = self._keys.get((kid, algorithm))
            if key is None:
                raise refused("its algorithm (`alg`) is not the one of the key that its header names (`kid`)")
            return key
        if self._failing or self._fetched_at is None:
            raise Fault(
                FaultCode.unavailable, "the keys of the identity provider can't be had at the moment: try again later"
            )
        raise refused("its header names a key (`kid`) that its issuer does not have")

    async def prepare(self, kid: str) -> None:
        """Have the key `kid` here, if it can be had: waits for a fetch where it is unknown, and never raises."""
        known, now = self._holds(kid), self._clock()
        if known and self._fetched_at is not None and now - self._fetched_at < FRESH_SECONDS:
            return
        if self._fetching is None and (self._tried_at is None or now - self._tried_at >= MINIMUM_INTERVAL):
            self._tried_at = now
            self._fetching = asyncio.create_task(self._refresh())
        if not known and self._fetching is not None:
            # Whoever gives up leaves the fetch to the others who wait for it.
            await asyncio.shield(self._fetching)

    async def close(self) -> None:
        if self._fetching is not None:
            self._fetching.cancel()
            await asyncio.gather(self._fetching, return_exceptions=True)

    def _holds(self, kid: str) -> bool:
        usable = self._fetched_at is not None and self._clock() - self._fetched_at < STALE_SECONDS
        return usable and kid in self._kids

    async def _refresh(self) -> None:
        try:
            url = self._url or await self._discover()
            self._keys = parse_keys(await self._fetch(url))
            self._kids = frozenset(kid for kid, _ in self._keys)
            self._fetched_at = self._clock()
            if self._failing:
                log.info("the identity provider's keys can be had again")
            self._failing = False
        except Unfetchable as error:
            if not self._failing:
                log.warning("the identity provider's keys can't be had: %s; those from before are used", error)
            self._failing = True
        finally:
            self._fetching = None

    async def _discover(self) -> str:
        """OpenID Connect Discovery 1.0, section 4."""
        document = _object(await self._fetch(f"{self._issuer.rstrip('/')}/.well-known/openid-configuration"))
        if document.get("issuer") != self._issuer:
            raise Unfetchable("its OpenID configuration names another issuer than BONFIRE_OIDC_ISSUER")
        url = document.get("jwks_uri")
        if not isinstance(url, str) or not is_safe(url) or (is_loopback(url) and not is_loopback(self._issuer)):
            raise Unfetchable("its OpenID configuration has no jwks_uri of https")
        return url


def parse_keys(data: bytes) -> dict[tuple[str, str], PyJWK]:
    """The keys of a JWKS that check signatures, by name and algorithm; others are passed over, as RFC 7517 (section 5)
    asks. Unfetchable when there is none."""
    listed = _object(data).get("keys")
    if not isinstance(listed, list) or len(listed) > _MOST_KEYS:
        raise Unfetchable("its answer is no set of keys")
    keys: dict[tuple[str, str], PyJWK] = {}
    for one in listed:
        kid = one.get("kid") if isinstance(one, dict) else None
        if not isinstance(kid, str) or not 0 < len(kid) <= _MOST_KID:
            continue
        for algorithm in _algorithms(one):
            try:
                key = PyJWK(one, algorithm)
                weak = key.Algorithm.check_key_length(key.key)
            except (PyJWTError, ValueError, TypeError, AttributeError):
                continue
            if weak is None:
                keys.setdefault((kid, algorithm), key)
    if not keys:
        raise Unfetchable("its set of keys has none that can be used")
    return keys


def is_safe(url: str) -> bool:
    """Whether what is fetched from `url` can be trusted: by https, or from this machine itself."""
    return _host(url) is not None and (url.startswith("https://") or is_loopback(url))


def is_loopback(url: str) -> bool:
    """Whether `url` is of http(s), on this machine."""
    host = _host(url)
    if host is None:
        return False
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _host(url: str) -> str | None:
    try:
        parts = urlsplit(url)
        return parts.hostname if parts.scheme in ("http", "https") and parts.username is None else None
    except ValueError:
        return None


def _algorithms(key: dict[str, Any]) -> tuple[str, ...]:
    """What signatures `key` may check: the one that it names, else all that its type can."""
    operations = key.get("key_ops", ["verify"])
    # With its private part, or for encrypting, it is nothing that we should have.
    if key.get("use", "sig") != "sig" or not isinstance(operations, list) or "verify" not in operations or "d" in key:
        return ()
    kind, curve = key.get("kty"), key.get("crv")
    fitting: tuple[str, ...] = ()
    if kind == "RSA":
        fitting = _RSA
    elif isinstance(curve, str) and kind == ("OKP" if curve == "Ed25519" else "EC"):
        fitting = (_CURVES[curve],) if curve in _CURVES else ()
    named = key.get("alg")
    return fitting if named is None else tuple(one for one in fitting if one == named)


def _object(data: bytes) -> dict[str, Any]:
    try:
        found = msgspec.json.decode(data)
    except (msgspec.DecodeError, RecursionError, UnicodeError):
        found = None
    if not isinstance(found, dict):
        raise Unfetchable("its answer is no JSON object")
    return found
