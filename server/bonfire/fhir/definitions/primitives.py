"""FHIR R4's primitive types: what each may look like in JSON.

A check answers None for a good value, else what was expected. It never repeats the value.
"""

import re
from collections.abc import Callable, Mapping
from datetime import date
from decimal import Decimal

Check = Callable[[object], str | None]

MAX_DIGITS = 1000
"""A number is written with at most this many digits when spelled out without an exponent. Postgres would refuse some
50 times as many; nothing measured on a patient comes near."""

# The specification's `\s` is the four ASCII spaces of XML: a no-break space is an ordinary character in a code.
_CODE = re.compile(r"[^\s]+(\s[^\s]+)*", re.ASCII)
_ID = re.compile(r"[A-Za-z0-9\-.]{1,64}")
_URI = re.compile(r"\S+", re.ASCII)
_OID = re.compile(r"urn:oid:[0-2](\.(0|[1-9][0-9]*))+")
_UUID = re.compile(r"urn:uuid:[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_BASE64 = re.compile(r"[0-9A-Za-z+/\s]*(=\s*){0,2}", re.ASCII)
_SPACE = re.compile(r"\s+", re.ASCII)
_DAY = r"(?P<day>[0-9]{4}-[0-9]{2}-[0-9]{2})"
_CLOCK = r"([01][0-9]|2[0-3]):[0-5][0-9]:([0-5][0-9]|60)(\.[0-9]{1,12})?"
_ZONE = r"(Z|[+-]((0[0-9]|1[0-3]):[0-5][0-9]|14:00))"
_PARTIAL = r"[0-9]{4}(-(0[1-9]|1[0-2]))?"
_DATE = re.compile(rf"{_PARTIAL}|{_DAY}")
_DATE_TIME = re.compile(rf"{_PARTIAL}|{_DAY}(T{_CLOCK}{_ZONE})?")
_INSTANT = re.compile(rf"{_DAY}T{_CLOCK}{_ZONE}")
_TIME = re.compile(_CLOCK)
# No text database stores U+0000, and half of a surrogate pair has no UTF-8; R4 forbids the other control characters.
_FORBIDDEN = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff]")


def is_id(text: str) -> bool:
    """Whether `text` may be the logical id of a resource."""
    return _ID.fullmatch(text) is not None


def _boolean(value: object) -> str | None:
    return None if isinstance(value, bool) else "true or false"


def _integer(low: int, expected: str) -> Check:
    def check(value: object) -> str | None:
        return None if type(value) is int and low <= value < 2**31 else expected

    return check


def _decimal(value: object) -> str | None:
    if type(value) is int:
        return None if abs(value) < 10**MAX_DIGITS else f"a number of up to {MAX_DIGITS} digits"
    if not isinstance(value, Decimal):
        return "a number"
    _, digits, exponent = value.as_tuple()
    if not isinstance(exponent, int) or max(len(digits), abs(exponent), len(digits) + exponent) > MAX_DIGITS:
        return f"a number of up to {MAX_DIGITS} digits"
    return None


def _string(value: object) -> str | None:
    if not isinstance(value, str):
        return "a string"
    if not value:
        return "a string that is not empty"
    return "a string without control characters" if _FORBIDDEN.search(value) else None


def _matching(pattern: re.Pattern[str], expected: str) -> Check:
    def check(value: object) -> str | None:
        if not isinstance(value, str) or not pattern.fullmatch(value) or _FORBIDDEN.search(value):
            return expected
        return None

    return check


def _moment(pattern: re.Pattern[str], expected: str) -> Check:
    def check(value: object) -> str | None:
        match = pattern.fullmatch(value) if isinstance(value, str) else None
        if match is None or match.string.startswith("0000"):
            return expected
        if match["day"]:
            try:
                date.fromisoformat(match["day"])
            except ValueError:
                return "a day that the calendar has"
        return None

    return check


def _base64(value: object) -> str | None:
    if not isinstance(value, str) or not value or not _BASE64.fullmatch(value):
        return "base64"
    return None if len(_SPACE.sub("", value)) % 4 == 0 else "base64, padded to groups of four"


def _xhtml(value: object) -> str | None:
    expected = "an XHTML <div>"
    if not isinstance(value, str) or not value.lstrip().startswith("<div"):
        return expected
    return f"{expected} without control characters" if _FORBIDDEN.search(value) else None


PRIMITIVES: Mapping[str, Check] = {
    "base64Binary": _base64,
    "boolean": _boolean,
    "canonical": _matching(_URI, "a canonical URL without spaces"),
    "code": _matching(_CODE, "a code: no space at either end, single ones between"),
    "date": _moment(_DATE, "a date: YYYY, YYYY-MM or YYYY-MM-DD"),
    "dateTime": _moment(_DATE_TIME, "a date, or a time YYYY-MM-DDThh:mm:ss with its zone"),
    "decimal": _decimal,
    "id": _matching(_ID, "an id: 1 to 64 of A-Z a-z 0-9 - ."),
    "instant": _moment(_INSTANT, "a time YYYY-MM-DDThh:mm:ss with its zone"),
    "integer": _integer(-(2**31), "a whole number of 32 bits"),
    "markdown": _string,
    "oid": _matching(_OID, "an OID: urn:oid:1.2.3"),
    "positiveInt": _integer(1, "a whole number from 1"),
    "string": _string,
    "time": _matching(_TIME, "a time of day hh:mm:ss"),
    "unsignedInt": _integer(0, "a whole number from 0"),
    "uri": _matching(_URI, "a URI without spaces"),
    "url": _matching(_URI, "a URL without spaces"),
    "uuid": _matching(_UUID, "a UUID: urn:uuid:, then 8-4-4-4-12 hexadecimal digits"),
    "xhtml": _xhtml,
}
