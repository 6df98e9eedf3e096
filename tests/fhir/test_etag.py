"""Versions as entity tags."""

import pytest

from bonfire.fhir.etag import etag, etag_matches, parse_etag
from bonfire.fhir.outcome import Refusal


@pytest.mark.parametrize("text", ['W/"7"', '"7"', ' W/"7" '])
def test_a_version_is_read_back(text: str) -> None:
    assert parse_etag(text) == 7
    assert parse_etag(etag(7)) == 7


@pytest.mark.parametrize("text", ["7", 'W/"x"', "", "*", 'W/"' + "9" * 19 + '"', 'W/"1", W/"2"'])
def test_other_tags_are_refused(text: str) -> None:
    with pytest.raises(Refusal):
        parse_etag(text)


@pytest.mark.parametrize(
    ("header", "matches"),
    [('W/"7"', True), ('"7"', True), ('W/"6", W/"7"', True), ("*", True), ('W/"8"', False), ("nonsense", False)],
)
def test_if_none_match(header: str, matches: bool) -> None:
    assert etag_matches(header, 7) is matches
