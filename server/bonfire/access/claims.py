"""From a token's claims, whose signature has been checked, to the caller that they name.

Everything that a token says is checked here for what it is (a time, a text, a list of texts) before anybody uses it. A
refusal names the claim that is wrong, and holds nothing of the token.
"""

import re
from collections.abc import Mapping
from typing import Any, get_args
from unicodedata import category

from msgspec import Struct

from bonfire.access.principal import Kind, Principal
from bonfire_protocol.faults import Fault, FaultCode

Claims = Mapping[str, Any]

_KINDS: dict[str, Kind] = {kind: kind for kind in get_args(Kind)}
_SMART = ("patient/", "user/", "system/", "launch")
_PATIENT = re.compile(r"(?:Patient/)?([A-Za-z0-9.-]{1,64})")
_PURPOSE = re.compile(r"[A-Z][A-Z0-9]{1,31}")
# RFC 7519's times are seconds since 1970; after the year 9999 no calendar of ours goes on.
_LAST_TIME = 253402300799
_MOST_WORDS = 100
_MOST_TEXT = 255


class ClaimNames(Struct, frozen=True):
    """What the issuer calls the claims that we need. A name with dots is a path into objects (`realm_access.roles`),
    unless there is a claim of just that name."""

    tenant: str = "tenant"
    user: str = "sub"
    name: str = "name"
    roles: str = "roles"
    kind: str = "kind"
    patient: str = "patient"
    purpose: str = "purpose"
    scope: str = "scope"
    behalf_of: str = "behalf_of"


class Rules(Struct, frozen=True):
    """What an issuer's tokens have to say. `leeway`: by how many seconds its clock and ours may differ."""

    issuer: str
    audience: str
    names: ClaimNames = ClaimNames()
    leeway: int = 60


def refused(reason: str) -> Fault:
    """What is said of a token that proves nothing."""
    return Fault(
        FaultCode.unauthenticated,
        f"the token is refused: {reason}",
        field="token",
        expected="a valid, unexpired token of this server",
    )


def principal_of(claims: Claims, rules: Rules, now: float) -> Principal:
    """The caller that `claims` name, at `now` (seconds since 1970). Fault unauthenticated names the wrong claim.

    A caller's `expires_at` is the token's `exp` and the leeway, so that whoever enforces it later agrees with this.
    """
    _check_issuer(claims, rules)
    expires_at = _check_times(claims, rules.leeway, now)
    names = rules.names
    subject = _text(claims, names.user)
    kind, behalf_of = _kind(claims, names.kind), _optional(claims, names.behalf_of)
    user, name = subject, _optional(claims, names.name, words=True) or subject
    actor = claims.get("act")
    if actor is not None:
        # RFC 8693, section 4.1: who acts is the innermost word of the outermost `act`; the subject is acted for.
        if behalf_of is not None:
            raise refused(f"the claims `act` and `{names.behalf_of}` both say on whose behalf")
        if not isinstance(actor, Mapping):
            raise refused("the claim `act` has to be an object")
        user, behalf_of = _text(actor, "sub", shown="act.sub"), subject
        name = _optional(actor, "name", words=True, shown="act.name") or user
    if kind is None:
        # Whoever acts for another and does not say what it is, is taken for less than a person: only those sign.
        kind = "person" if behalf_of is None else "service"
    return Principal(
        tenant=_text(claims, names.tenant),
        user=user,
        name=name,
        roles=frozenset(_words(claims, names.roles)),
        kind=kind,
        patient=_patient(claims, names.patient),
        purpose=_purpose(claims, names.purpose),
        scopes=_scopes(claims, names.scope),
        behalf_of=behalf_of,
        expires_at=expires_at,
    )


def _check_issuer(claims: Claims, rules: Rules) -> None:
    if _required(claims, "iss") != rules.issuer:
        raise refused("its issuer (`iss`) is none that this server trusts")
    audience = _required(claims, "aud")
    named = [audience] if isinstance(audience, str) else audience
    if not (isinstance(named, list) and all(isinstance(one, str) for one in named)):
        raise refused("the claim `aud` has to be text, or a list of texts")
    if rules.audience not in named:
        raise refused("its audience (`aud`) is not this server")


def _check_times(claims: Claims, leeway: int, now: float) -> int:
    """When the token ends for us."""
    expires, issued = _time(_required(claims, "exp"), "exp"), _time(_required(claims, "iat"), "iat")
    if now >= int(expires) + leeway:
        raise refused("it has expired (`exp`)")
    if now < issued - leeway:
        raise refused("it was issued in the future (`iat`)")
    not_before = claims.get("nbf")
    if not_before is not None and now < _time(not_before, "nbf") - leeway:
        raise refused("it is not valid yet (`nbf`)")
    return int(expires) + leeway


def _time(value: Any, claim: str) -> float:
    # A bool is an int to Python, and no comparison holds for a NaN.
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= _LAST_TIME:
        raise refused(f"the claim `{claim}` has to be a time, in seconds since 1970")
    return value


def _kind(claims: Claims, claim: str) -> Kind | None:
    value = _find(claims, claim)
    if value is None:
        return None
    kind = _KINDS.get(value) if isinstance(value, str) else None
    if kind is None:
        raise refused(f"the claim `{claim}` has to be one of {', '.join(_KINDS)}")
    return kind


def _patient(claims: Claims, claim: str) -> str | None:
    value = _find(claims, claim)
    if value is None:
        return None
    found = _PATIENT.fullmatch(value) if isinstance(value, str) else None
    if found is None:
        raise refused(f"the claim `{claim}` has to be a patient's id")
    return found[1]


def _purpose(claims: Claims, claim: str) -> str:
    value = _find(claims, claim)
    if value is None:
        return "TREAT"
    if not (isinstance(value, str) and _PURPOSE.fullmatch(value)):
        raise refused(f"the claim `{claim}` has to be a purpose of use, such as TREAT")
    return value


def _scopes(claims: Claims, claim: str) -> frozenset[str] | None:
    """The SMART scopes; None where there is none, as in `openid profile`: such a token is not bound by scopes."""
    return frozenset(scope for scope in _words(claims, claim) if scope.startswith(_SMART)) or None


def _words(claims: Claims, claim: str) -> list[str]:
    """A list of texts, or a text with spaces between them."""
    value = _find(claims, claim)
    if value is None:
        return []
    words = value.split() if isinstance(value, str) else value
    if not (isinstance(words, list) and len(words) <= _MOST_WORDS and all(_is_id(word) for word in words)):
        raise refused(f"the claim `{claim}` has to be a list of texts, or words with spaces between them")
    return words


def _text(claims: Claims, claim: str, *, shown: str | None = None) -> str:
    """An identifier."""
    value = _required(claims, claim, shown=shown)
    if not _is_id(value):
        raise refused(f"the claim `{shown or claim}` has to be text, of at most {_MOST_TEXT} characters")
    return str(value)


def _optional(claims: Claims, claim: str, *, words: bool = False, shown: str | None = None) -> str | None:
    value = _find(claims, claim)
    if value is None:
        return None
    if not (_is_name(value) if words else _is_id(value)):
        raise refused(f"the claim `{shown or claim}` has to be text, of at most {_MOST_TEXT} characters")
    return str(value)


def _is_id(value: object) -> bool:
    # A lone * stands for everybody where users are listed.
    return (
        isinstance(value, str)
        and 0 < len(value) <= _MOST_TEXT
        and value.isprintable()
        and value.strip() == value != "*"
    )


def _is_name(value: object) -> bool:
    # Names have joiners and spaces that are not printable to Python; what breaks a line or an encoder is refused.
    return (
        isinstance(value, str)
        and 0 < len(value) <= _MOST_TEXT
        and bool(value.strip())
        and not any(category(character) in ("Cc", "Cs") for character in value)
    )


def _required(claims: Claims, claim: str, *, shown: str | None = None) -> Any:
    value = _find(claims, claim)
    if value is None:
        raise refused(f"the claim `{shown or claim}` is missing")
    return value


def _find(claims: Claims, claim: str) -> Any:
    if claim in claims:
        return claims[claim]
    at: Any = claims
    for step in claim.split("."):
        at = at.get(step) if isinstance(at, Mapping) else None
    return at
