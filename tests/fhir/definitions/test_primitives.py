"""Each primitive type: what is let in, and what is not."""

from decimal import Decimal
from typing import Any

import pytest

from bonfire.fhir.definitions.primitives import PRIMITIVES, is_id

GOOD: list[tuple[str, Any]] = [
    ("base64Binary", "QUJD"),
    ("base64Binary", "QUI=\nQQ=="[:4]),
    ("base64Binary", "QU JD\r\nQUJD"),
    ("boolean", True),
    ("code", "final"),
    ("code", "two words"),
    ("code", "CHEST\u00a0"),
    ("date", "2020"),
    ("date", "2020-02"),
    ("date", "2020-02-29"),
    ("dateTime", "1976"),
    ("dateTime", "2015-02-07T13:28:17-05:00"),
    ("dateTime", "2015-02-07T13:28:17.239+14:00"),
    ("dateTime", "2016-12-31T23:59:60Z"),
    ("decimal", 5),
    ("decimal", Decimal("-0.50")),
    ("decimal", Decimal("1e300")),
    ("id", "a.B-9"),
    ("id", "x" * 64),
    ("instant", "2015-02-07T13:28:17.239+02:00"),
    ("integer", -(2**31)),
    ("markdown", "# a\n\tb"),
    ("oid", "urn:oid:1.2.840"),
    ("positiveInt", 1),
    ("string", " \u00e9 🩺 "),
    ("time", "23:59:59.5"),
    ("unsignedInt", 0),
    ("uri", "urn:anything:goes"),
    ("url", "https://example.org/a?b=c"),
    ("canonical", "http://example.org/x|1.0"),
    ("uuid", "urn:uuid:c757873d-ec9a-4326-a141-556f43239520"),
    ("xhtml", '<div xmlns="http://www.w3.org/1999/xhtml">x</div>'),
]

BAD: list[tuple[str, Any]] = [
    ("base64Binary", "QUJ"),
    ("base64Binary", "Q!JD"),
    ("base64Binary", "=QUJ"),
    ("base64Binary", ""),
    ("boolean", "true"),
    ("boolean", 1),
    ("code", " final"),
    ("code", "two  words"),
    ("code", ""),
    ("code", "a\x07"),
    ("date", 0),
    ("date", "2020-02-30"),
    ("date", "2020-13"),
    ("date", "2020-13-01"),
    ("date", "0000"),
    ("date", "20200101"),
    ("date", "2020-01-01T00:00:00Z"),
    ("date", "２０２０"),
    ("dateTime", "2020-01-01T10:00Z"),
    ("dateTime", "2020-01-01T10:00:00"),
    ("dateTime", "2020-01-01T24:00:00Z"),
    ("dateTime", "2020-02-30T10:00:00Z"),
    ("dateTime", 1577836800),
    ("decimal", "5"),
    ("decimal", True),
    ("decimal", Decimal("1e1001")),
    ("decimal", Decimal("1e-1001")),
    ("decimal", 10**1001),
    ("decimal", 1.5),
    ("id", "a/b"),
    ("id", "x" * 65),
    ("id", ""),
    ("instant", "2020-01-01"),
    ("instant", "2020-02-30T00:00:00Z"),
    ("integer", 2**31),
    ("integer", Decimal("2.0")),
    ("integer", True),
    ("integer", "2"),
    ("oid", "1.2.840"),
    ("positiveInt", 0),
    ("string", ""),
    ("string", 5),
    ("string", "a\x00b"),
    ("string", "\ud800"),
    ("time", "24:00:00"),
    ("time", "10:00"),
    ("unsignedInt", -1),
    ("uri", "a b"),
    ("uri", ""),
    ("uri", "\ud800"),
    ("uuid", "c757873d-ec9a-4326-a141-556f43239520"),
    ("xhtml", "text"),
    ("xhtml", "<div>\x00</div>"),
]


@pytest.mark.parametrize(("type_", "value"), GOOD)
def test_good_values_pass(type_: str, value: Any) -> None:
    assert PRIMITIVES[type_](value) is None


@pytest.mark.parametrize(("type_", "value"), BAD)
def test_bad_values_are_told_what_was_expected(type_: str, value: Any) -> None:
    expected = PRIMITIVES[type_](value)
    assert expected
    assert not (isinstance(value, str) and len(value) > 4 and value in expected)


def test_every_primitive_has_a_good_and_a_bad_value() -> None:
    assert {type_ for type_, _ in GOOD} == set(PRIMITIVES)
    assert {type_ for type_, _ in BAD} | {"markdown", "url", "canonical"} == set(PRIMITIVES)


def test_an_id_is_a_whole_id() -> None:
    assert is_id("p1")
    assert not is_id("p1\n")
