"""Positions: their one spelling, and back."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bonfire_protocol.values import WirePosition, format_position, parse_position


@given(st.integers(min_value=0, max_value=2**64 - 1))
def test_a_position_comes_back_from_its_spelling(position: int) -> None:
    text = format_position(position)
    assert parse_position(text) == position
    assert msgspec.convert(text, WirePosition) == text


@pytest.mark.parametrize("text", ["", "0", "0/", "/0", "0/G", "123456789/0", "0/123456789", "0/0/0"])
def test_what_is_no_position_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        parse_position(text)
