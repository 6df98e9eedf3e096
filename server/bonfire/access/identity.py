"""Who a token says the caller is.

Tokens are JWTs signed with a secret that the server and whoever mints them share (HS256). `bonfire dev` on loopback
asks for none: there, everybody is the same development user, in the tenant that they name.
"""

from datetime import UTC, datetime, timedelta

import jwt

from bonfire.access.principal import Principal
from bonfire_protocol.faults import Fault, FaultCode

ISSUER = "bonfire"
AUDIENCE = "bonfire"
DEFAULT_TENANT = "default"
_ALGORITHM = "HS256"
# As long as the hash: RFC 7518, section 3.2.
_MINIMUM_KEY_BYTES = 32
_REQUIRED = ["exp", "iat", "iss", "aud", "sub", "tenant"]


def mint(
    key: str, *, tenant: str, user: str, name: str, now: datetime, lifetime: timedelta = timedelta(hours=12)
) -> str:
    """A token that says: this is `user` of `tenant`, called `name`, for `lifetime` from `now`.

    ValueError when the key is shorter than 32 bytes.
    """
    _check_key(key)
    claims = {
        "iss": ISSUER,
        "aud": AUDIENCE,
        "sub": user,
        "tenant": tenant,
        "name": name,
        "iat": int(now.timestamp()),
        "exp": int((now + lifetime).timestamp()),
    }
    return jwt.encode(claims, key, algorithm=_ALGORITHM)


def authenticate(token: str, key: str, now: datetime) -> Principal:
    """The caller that `token` names, at time `now`.

    Fault unauthenticated says what is wrong with the token, and holds nothing of it. ValueError when the key is shorter
    than 32 bytes.
    """
    _check_key(key)
    try:
        claims = jwt.decode(
            token,
            key,
            algorithms=[_ALGORITHM],
            audience=AUDIENCE,
            issuer=ISSUER,
            # Times are compared below, with the clock that was passed in.
            options={"require": _REQUIRED, "verify_exp": False, "verify_iat": False, "verify_nbf": False},
        )
    except jwt.InvalidSignatureError:
        raise _refused("it was signed with another key") from None
    except jwt.InvalidAudienceError:
        raise _refused(f"its audience is not `{AUDIENCE}`") from None
    except jwt.InvalidIssuerError:
        raise _refused(f"its issuer is not `{ISSUER}`") from None
    except jwt.MissingRequiredClaimError as error:
        raise _refused(f"the claim `{error.claim}` is missing") from None
    except jwt.InvalidAlgorithmError:
        raise _refused(f"it is not signed with {_ALGORITHM}") from None
    except jwt.InvalidTokenError:
        raise _refused("it is no JSON web token") from None
    expires = claims["exp"]
    if not isinstance(expires, int) or now >= datetime.fromtimestamp(expires, UTC):
        raise _refused("it has expired")
    not_before = claims.get("nbf")
    if not_before is not None and (not isinstance(not_before, int) or now < datetime.fromtimestamp(not_before, UTC)):
        raise _refused("it is not valid yet")
    user, tenant, name = claims["sub"], claims["tenant"], claims.get("name", claims["sub"])
    if not all(isinstance(claim, str) and claim for claim in (user, tenant, name)):
        raise _refused("`sub`, `tenant` and `name` have to be text")
    return Principal(tenant=tenant, user=user, name=name)


def development_principal(tenant: str | None) -> Principal:
    """The caller of `bonfire dev` on loopback, where no token is asked for."""
    return Principal(tenant=tenant or DEFAULT_TENANT, user="demo", name="Demo Clinician")


def _check_key(key: str) -> None:
    if len(key.encode()) < _MINIMUM_KEY_BYTES:
        raise ValueError(f"the key that signs tokens has to have at least {_MINIMUM_KEY_BYTES} bytes")


def _refused(reason: str) -> Fault:
    return Fault(
        FaultCode.unauthenticated,
        f"the token is refused: {reason}",
        field="token",
        expected="a valid, unexpired token of this server",
    )
