"""Toy embedding providers, for tests only: words hashed to dimensions, so that texts with words in common are near."""

import hashlib
import re

DIMENSIONS = 64


def embed(texts: list[str]) -> list[list[float]]:
    """Feature hashing: the same text always gives the same vector."""
    return [_vector(text) for text in texts]


async def embed_async(texts: list[str]) -> list[list[float]]:
    return embed(texts)


def embed_short(texts: list[str]) -> list[list[float]]:
    return [vector[:8] for vector in embed(texts)]


def embed_nothing(texts: list[str]) -> list[list[float]]:
    return []


def fail(texts: list[str]) -> list[list[float]]:
    raise ConnectionError(f"could not embed {texts}")


NOT_A_FUNCTION = 1


def _vector(text: str) -> list[float]:
    vector = [0.0] * DIMENSIONS
    vector[0] = 0.01
    for word in re.findall(r"[a-z]+", text.lower()):
        digest = hashlib.blake2b(word.encode(), digest_size=4).digest()
        vector[int.from_bytes(digest) % DIMENSIONS] += 1.0
    return vector
