"""FHIR's times as periods."""

from datetime import UTC, datetime, timedelta, timezone

import pytest

from bonfire.fhir.moments import http_date, parse_instant, parse_period
from bonfire.fhir.outcome import Refusal


@pytest.mark.parametrize(
    ("text", "start", "length"),
    [
        ("2020", datetime(2020, 1, 1, tzinfo=UTC), timedelta(days=366)),
        ("2020-12", datetime(2020, 12, 1, tzinfo=UTC), timedelta(days=31)),
        ("2020-02-29", datetime(2020, 2, 29, tzinfo=UTC), timedelta(days=1)),
        ("2020-02-29T10:00:00Z", datetime(2020, 2, 29, 10, tzinfo=UTC), timedelta(seconds=1)),
        ("2020-02-29T10:00:00+02:00", datetime(2020, 2, 29, 8, tzinfo=UTC), timedelta(seconds=1)),
        ("2020-02-29T10:00:00 02:00", datetime(2020, 2, 29, 8, tzinfo=UTC), timedelta(seconds=1)),
        ("2020-02-29T10:00:00.5Z", datetime(2020, 2, 29, 10, 0, 0, 500_000, tzinfo=UTC), timedelta(microseconds=1)),
        (
            "2020-02-29T10:00:00.123456789Z",
            datetime(2020, 2, 29, 10, 0, 0, 123456, tzinfo=UTC),
            timedelta(microseconds=1),
        ),
        ("2016-12-31T23:59:60Z", datetime(2017, 1, 1, tzinfo=UTC), timedelta(seconds=1)),
    ],
)
def test_a_time_is_a_period(text: str, start: datetime, length: timedelta) -> None:
    period = parse_period(text, "_at")
    assert (period.start, period.end - period.start) == (start, length)
    assert parse_instant(text, "_since") == start


@pytest.mark.parametrize(
    "text", ["", "now", "2020-13", "2020-02-30", "9999", "9999-12-31T23:59:60Z", "2020-01-01T10:00"]
)
def test_other_texts_are_refused_by_parameter(text: str) -> None:
    with pytest.raises(Refusal, match="_since"):
        parse_instant(text, "_since")


def test_http_dates_are_in_gmt() -> None:
    at = datetime(2020, 1, 1, 1, tzinfo=timezone(timedelta(hours=2)))
    assert http_date(at) == "Tue, 31 Dec 2019 23:00:00 GMT"
