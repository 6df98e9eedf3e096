"""JSON text <-> values: numbers as they were written, and refusals that quote nothing."""

from decimal import Decimal
from typing import Any

import pytest

from bonfire.fhir.codec import decode, encode, same
from bonfire.fhir.outcome import Refusal


@pytest.mark.parametrize("number", ["2.50", "2.5", "0.10", "100", "-0.0", "1234567890123456789.123456789", "1E+2"])
def test_numbers_keep_their_spelling(number: str) -> None:
    assert encode(decode(f'{{"value":{number}}}'.encode())) == f'{{"value":{number}}}'.encode()


def test_text_of_every_plane_comes_back() -> None:
    text = '{"given":["Ж","🩺","a\\nb"]}'
    assert encode(decode(text.encode())).decode() == text


def test_pretty_text_is_the_same_value() -> None:
    value = {"a": [Decimal("1.0"), {"b": True}]}
    pretty = encode(value, pretty=True)
    assert b"\n  " in pretty
    assert same(decode(pretty), value)


@pytest.mark.parametrize(
    ("data", "place"),
    [
        (b'{"a":1,}', "line 1, column"),
        (b'{\n  "secret": tru\n}', "line 2, column 13"),
        (b'{"a": "secret\n"}', "line 1, column 14"),
        (b"", "line 1, column 1"),
        (b'{"a":1} secret', "line 1, column 9"),
        (b'"\xff"', "byte 1"),
        (b'{"a": NaN}', "NaN"),
        (b'{"a": -Infinity}', "Infinity"),
        (b'{"secret": 1, "secret": 2}', "twice"),
        (b"9" * 5000, "digits"),
        (b"[" * 100_000, "deeply"),
    ],
)
def test_malformed_json_is_refused_by_place_and_without_content(data: bytes, place: str) -> None:
    with pytest.raises(Refusal) as refused:
        decode(data)
    assert place in refused.value.message
    assert "secret" not in refused.value.message


def test_a_byte_order_mark_is_passed_over() -> None:
    assert decode(b'\xef\xbb\xbf{"a":1}') == {"a": 1}


@pytest.mark.parametrize(
    ("one", "other", "equal"),
    [
        ({"a": 1, "b": [1, 2]}, {"b": [1, 2], "a": 1}, True),
        ([1, 2], [2, 1], False),
        ([1], [1, 2], False),
        (Decimal("2.5"), Decimal("2.50"), False),
        (Decimal("1E+2"), 100, True),
        (1, Decimal("1.0"), False),
        (True, 1, False),
        (1, True, False),
        (True, True, True),
        (None, None, True),
        ("1", 1, False),
        ({"a": 1}, {"a": 1, "b": 2}, False),
    ],
)
def test_values_are_the_same_when_they_say_the_same(one: Any, other: Any, equal: bool) -> None:
    assert same(one, other) is equal
