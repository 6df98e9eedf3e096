"""Notes cut into pieces that an embedding can stand for: whole paragraphs where they fit, sentences, words last."""

import re
from collections.abc import Iterator

CHUNK_CHARACTERS = 1000

# Where a text may be cut, the best places first.
_CUTS = (re.compile(r"\n\s*\n"), re.compile(r"\n|(?<=[.!?])\s"), re.compile(r"\s"))


def chunks(text: str, size: int = CHUNK_CHARACTERS) -> list[str]:
    """The pieces of `text` in order, none empty, each of at most `size` characters; nothing but white space is lost."""
    return list(_pieces(text.strip(), size))


def _pieces(text: str, size: int) -> Iterator[str]:
    while len(text) > size:
        end = _cut(text, size)
        if piece := text[:end].rstrip():
            yield piece
        text = text[end:].lstrip()
    if text:
        yield text


def _cut(text: str, size: int) -> int:
    """Where to cut: at the last good place in the second half of the first `size` characters."""
    for pattern in _CUTS:
        places = [match.start() for match in pattern.finditer(text, size // 2, size + 2) if match.start() <= size]
        if places and places[-1] > 0:
            return places[-1]
    return size
