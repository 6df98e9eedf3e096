from hypothesis import given
from hypothesis import strategies as st

from bonfire.insight.chunks import chunks


def test_a_short_text_stays_whole() -> None:
    assert chunks("  One line.\n\nAnother. ", 100) == ["One line.\n\nAnother."]


def test_a_text_is_cut_at_the_last_paragraph_that_fits() -> None:
    assert chunks("aaa aaa.\n\nbbb bbb. bbb\n\nccc", 16) == ["aaa aaa.", "bbb bbb. bbb", "ccc"]


def test_a_long_paragraph_is_cut_at_a_sentence_and_a_long_sentence_at_a_word() -> None:
    assert chunks("One two. Three four. Five", 21) == ["One two. Three four.", "Five"]
    assert chunks("one two three four five", 10) == ["one two", "three four", "five"]


def test_an_empty_text_has_no_chunks() -> None:
    assert chunks(" \n ", 10) == []


@given(st.text(alphabet="ab.\n ", max_size=300), st.integers(min_value=2, max_value=40))
def test_nothing_is_lost_and_nothing_is_too_long(text: str, size: int) -> None:
    pieces = chunks(text, size)
    assert all(0 < len(piece) <= size for piece in pieces)
    assert "".join("".join(pieces).split()) == "".join(text.split())
