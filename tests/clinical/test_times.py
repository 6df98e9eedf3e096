"""Times as text: one width, UTC, so that text order is time order."""

from datetime import UTC, datetime, timedelta, timezone

from bonfire.clinical.times import instant


def test_an_instant_has_one_width_and_is_utc() -> None:
    assert instant(datetime(2026, 1, 31, 9, 15, tzinfo=UTC)) == "2026-01-31T09:15:00.000000Z"
    east = timezone(timedelta(hours=5, minutes=30))
    assert instant(datetime(2026, 1, 31, 2, 0, 0, 5, tzinfo=east)) == "2026-01-30T20:30:00.000005Z"
