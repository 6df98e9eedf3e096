"""FHIR's dates and times as points and periods of time, and as HTTP spells them."""

import re
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

from msgspec import Struct

from bonfire.fhir.definitions.primitives import PRIMITIVES
from bonfire.fhir.outcome import Refusal

_FRACTION = re.compile(r"(?<=\.)[0-9]+")


class Period(Struct, frozen=True):
    """From `start` on, until before `end`."""

    start: datetime
    end: datetime


def parse_period(text: str, parameter: str) -> Period:
    """The time that a FHIR dateTime stands for: `2020-02` is the whole of that February (UTC), a time its whole second
    or, where a fraction is given, that microsecond. Refusal names `parameter`."""
    # A query string's + is a space where the client did not encode it.
    text = text.replace(" ", "+")
    expected = PRIMITIVES["dateTime"](text)
    if expected is not None:
        raise Refusal.of(f"{parameter}: expected {expected}", "value")
    try:
        return _period(text)
    except (ValueError, OverflowError):
        raise Refusal.of(f"{parameter}: expected a time between the years 1 and 9999", "value") from None


def parse_instant(text: str, parameter: str) -> datetime:
    """The point in time that a FHIR instant or dateTime names: of a partial date, its start. Refusal names
    `parameter`."""
    return parse_period(text, parameter).start


def http_date(at: datetime) -> str:
    """A point in time as HTTP headers spell it, in whole seconds."""
    return format_datetime(at.astimezone(UTC), usegmt=True)


def _period(text: str) -> Period:
    match len(text):
        case 4:
            year = int(text)
            return Period(datetime(year, 1, 1, tzinfo=UTC), datetime(year + 1, 1, 1, tzinfo=UTC))
        case 7:
            year, month = int(text[:4]), int(text[5:])
            following = (year + 1, 1) if month == 12 else (year, month + 1)
            return Period(datetime(year, month, 1, tzinfo=UTC), datetime(*following, 1, tzinfo=UTC))
        case 10:
            day = datetime.fromisoformat(text).replace(tzinfo=UTC)
            return Period(day, day + timedelta(days=1))
        case _:
            # A leap second is the start of the next minute; the database keeps microseconds.
            leap = text[17:19] == "60"
            whole = _FRACTION.sub(_microseconds, f"{text[:17]}59{text[19:]}" if leap else text)
            start = (datetime.fromisoformat(whole) + timedelta(seconds=leap)).astimezone(UTC)
            return Period(start, start + (timedelta(microseconds=1) if "." in text else timedelta(seconds=1)))


def _microseconds(fraction: re.Match[str]) -> str:
    return fraction[0][:6].ljust(6, "0")
