"""Who a caller is: told by a token, which is given to whoever knows the keys of its issuer.

Three issuers may be trusted, each with keys of its own: the clinic's identity provider (OIDC, public keys, asymmetric
algorithms only); bonfire itself, by the operator's secret; and, under `bonfire dev` alone, a developer's secret. A
token is routed by the issuer that it claims, and then has to be signed by that issuer's key with one of that issuer's
algorithms: nothing in it chooses how it is checked.

`identify` is `prepare`, which may wait for keys, and `decide`, which does not.
"""

from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from typing import Any

import jwt
from jwt import PyJWK
from msgspec import Struct

from bonfire.access.claims import Claims, Rules, principal_of, refused
from bonfire.access.keys import ALGORITHMS, KeySet
from bonfire.access.minting import ALGORITHM, AUDIENCE, DEVELOPMENT_ISSUER, ISSUER, check_key
from bonfire.access.principal import Principal
from bonfire_protocol.faults import Fault, FaultCode

DEFAULT_TENANT = "default"

MOST_TOKEN_CHARACTERS = 16 * 1024
"""Far more than any provider's token has; it is not even looked into beyond."""

_MOST_SEEN = 20_000
_TYPES = frozenset({"JWT", "AT+JWT", "APPLICATION/AT+JWT"})
# Claims are checked by `principal_of`, with the clock that is passed in and by the rules of their issuer.
_SIGNATURE_ONLY: Any = {
    "verify_signature": True,
    "enforce_minimum_key_length": True,
    "verify_exp": False,
    "verify_nbf": False,
    "verify_iat": False,
    "verify_aud": False,
    "verify_iss": False,
    "verify_sub": False,
    "verify_jti": False,
}


class Provider(Struct, frozen=True):
    """An identity provider: what its tokens have to say, and its keys."""

    rules: Rules
    keys: KeySet


class Identifier:
    """Tells who calls. `clock` is the time of day."""

    def __init__(
        self,
        clock: Callable[[], datetime],
        *,
        provider: Provider | None = None,
        shared_keys: Sequence[str] = (),
        development_key: Callable[[], str | None] | None = None,
        leeway: int = 60,
    ) -> None:
        """`shared_keys` are those that check tokens of bonfire's own: several while one takes the other's place.
        `development_key` makes this the identifier of `bonfire dev`, to whom a caller without a token is welcome as the
        development user; it gives the developer's key, once there is one. `leeway` is in seconds.

        ValueError when a key is shorter than 32 bytes.
        """
        for key in shared_keys:
            check_key(key)
        self._clock = clock
        self._provider = provider
        self._shared = tuple(shared_keys)
        self._development_key = development_key
        self._rules = Rules(ISSUER, AUDIENCE, leeway=leeway)
        self._development_rules = Rules(DEVELOPMENT_ISSUER, AUDIENCE, leeway=leeway)
        # A screen shows the same token with each request, and checking one takes half a millisecond.
        self._seen: OrderedDict[bytes, _Seen] = OrderedDict()

    async def identify(self, token: str | None, tenant: str | None = None) -> Principal:
        """The caller that `token` names; `tenant` is the one that the caller asked for, if any.

        Fault unauthenticated says what is wrong with the token, and holds nothing of it; forbidden: it is for another
        tenant; unavailable: its issuer's keys can't be had.
        """
        await self.prepare(token)
        return self.decide(token, tenant)

    async def prepare(self, token: str | None) -> None:
        """Have here what `decide` needs for `token`. Never raises; at most a few seconds."""
        if token is None or self._provider is None:
            return
        try:
            kid = self._kid_for(token, self._provider)
        except Fault:
            # `decide` finds the same, and says it.
            return
        if kid is not None:
            await self._provider.keys.prepare(kid)

    def decide(self, token: str | None, tenant: str | None = None) -> Principal:
        """As `identify`, by the keys that are here."""
        if token is None and self._development_key is not None:
            return development_principal(tenant)
        if token is None:
            raise Fault(FaultCode.unauthenticated, "a token is needed here", field="token", expected="a bearer token")
        principal = self._principal(token)
        if tenant is not None and tenant != principal.tenant:
            raise Fault(
                FaultCode.forbidden, "the token is for another tenant", field="tenant", expected="the token's tenant"
            )
        return principal

    async def close(self) -> None:
        if self._provider is not None:
            await self._provider.keys.close()

    def _kid_for(self, token: str, provider: Provider) -> str | None:
        """Which of the provider's keys is needed to decide; None: none."""
        seen = self._seen.get(_digest(token))
        if seen is not None:
            return seen.kid
        header, claims = _read(token)
        if claims.get("iss") != provider.rules.issuer:
            return None
        _algorithm(header, ALGORITHMS)
        return _kid(header)

    def _principal(self, token: str) -> Principal:
        digest, now = _digest(token), self._clock().timestamp()
        seen = self._seen.get(digest)
        if seen is not None and self._holds(seen, now):
            self._seen.move_to_end(digest)
            return seen.principal
        self._seen.pop(digest, None)
        verified = self._verify(token, now)
        if verified.lasting:
            self._seen[digest] = verified
            if len(self._seen) > _MOST_SEEN:
                self._seen.popitem(last=False)
        return verified.principal

    def _holds(self, seen: "_Seen", now: float) -> bool:
        """Whether a token that was good still is: nothing about it changes but the time, and its issuer's keys."""
        if seen.principal.expires_at is None or not seen.since <= now < seen.principal.expires_at:
            return False
        if seen.kid is None or seen.key is None or self._provider is None:
            return True
        # A key that was fetched again is another object: its tokens are checked once more.
        return self._provider.keys.find(seen.kid, seen.key.algorithm_name) is seen.key

    def _verify(self, token: str, now: float) -> "_Seen":
        header, claims = _read(token)
        issuer = claims.get("iss")
        if issuer is None:
            raise refused("the claim `iss` is missing")
        if self._provider is not None and issuer == self._provider.rules.issuer:
            kid = _kid(header)
            key = self._provider.keys.find(kid, _algorithm(header, ALGORITHMS))
            return _Seen(principal_of(_verified(token, [key]), self._provider.rules, now), now, kid, key)
        if issuer == ISSUER and self._shared:
            _algorithm(header, frozenset({ALGORITHM}))
            return _Seen(principal_of(_verified(token, self._shared), self._rules, now), now)
        if issuer == DEVELOPMENT_ISSUER:
            if self._development_key is None:
                raise refused("it is a development token (`iss`), which `bonfire dev` takes and no other server")
            made = self._development_key()
            if made is None:
                raise refused("it is a development token of another data folder")
            _algorithm(header, frozenset({ALGORITHM}))
            claims = _verified(token, [made])
            return _Seen(principal_of(claims, self._development_rules, now), now, lasting=False)
        raise refused("its issuer (`iss`) is none that this server trusts")


@dataclass(frozen=True, slots=True)
class _Seen:
    """A token that was good at `since`. `kid` and `key` are the provider's that it was signed with; `lasting`: only
    time and they can change that."""

    principal: Principal
    since: float
    kid: str | None = None
    key: PyJWK | None = None
    lasting: bool = True


def development_principal(tenant: str | None) -> Principal:
    """The caller of `bonfire dev` on loopback who has no token."""
    return Principal(
        tenant=tenant or DEFAULT_TENANT,
        user="demo",
        name="Demo Clinician",
        roles=frozenset({"clinician", "administrator"}),
    )


def _digest(token: str) -> bytes:
    # A token itself is kept nowhere. One that is no Unicode is refused later.
    return sha256(token.encode(errors="surrogatepass")).digest()


def _read(token: str) -> tuple[Claims, Claims]:
    """A token's header and claims, which nobody has vouched for yet."""
    if len(token) > MOST_TOKEN_CHARACTERS:
        raise refused(f"it is longer than {MOST_TOKEN_CHARACTERS} characters")
    if not token.isascii():
        raise refused("it is no JSON web token")
    try:
        read = jwt.decode_complete(token, options={"verify_signature": False})
    except jwt.PyJWTError:
        raise refused("it is no JSON web token") from None
    header = read["header"]
    kind = header.get("typ", "JWT")
    if not isinstance(kind, str) or kind.upper() not in _TYPES:
        # RFC 8725, section 3.11: what was signed for another use is no token of access.
        raise refused("its header says that it is something else (`typ`)")
    return header, read["payload"]


def _algorithm(header: Claims, allowed: frozenset[str]) -> str:
    algorithm = header.get("alg")
    if not isinstance(algorithm, str) or algorithm not in allowed:
        raise refused(f"its algorithm (`alg`) is not one of its issuer's: {', '.join(sorted(allowed))}")
    return algorithm


def _kid(header: Claims) -> str:
    kid = header.get("kid")
    if not isinstance(kid, str):
        raise refused("its header names no key (`kid`)")
    return kid


def _verified(token: str, keys: Sequence[str | PyJWK]) -> Claims:
    """The claims, vouched for by one of `keys`."""
    for key in keys:
        algorithm = key.algorithm_name if isinstance(key, PyJWK) else ALGORITHM
        try:
            verified: Claims = jwt.decode(token, key, algorithms=[algorithm], options=_SIGNATURE_ONLY)
        except jwt.InvalidSignatureError:
            continue
        except jwt.InvalidAlgorithmError:
            raise refused("its algorithm (`alg`) is not that of its issuer's key") from None
        except jwt.PyJWTError:
            raise refused("it is no JSON web token") from None
        return verified
    raise refused("its signature is not by its issuer's key")
