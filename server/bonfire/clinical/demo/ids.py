"""Ids for synthetic records."""

from random import Random
from uuid import UUID


def new_id(random: Random) -> str:
    """A version 4 UUID, drawn from `random`."""
    return str(UUID(int=random.getrandbits(128), version=4))
