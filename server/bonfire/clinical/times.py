"""Times as FHIR and the messages spell them."""

from datetime import UTC, datetime
from typing import Annotated

from msgspec import Meta

Instant = Annotated[datetime, Meta(tz=True)]
"""A point in time: an argument of this type has to say its zone."""


def instant(at: datetime) -> str:
    """UTC with six decimals, fixed width, so that text order is time order: `2026-01-31T09:15:00.000000Z`."""
    return at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
