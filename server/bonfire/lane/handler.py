"""What an index gives to its lane: how to bring one patient up to date."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

import asyncpg

from bonfire.store.pool import Database

Write = Callable[[asyncpg.Connection], Awaitable[None]]


class JobError(Exception):
    """A job could not be done. The message is told to clients and kept in the queue: it holds no patient's data."""


class Handler(Protocol):
    """The work of one index.

    A job says "look again", never what has changed: doing it twice, or once for many touches, gives the same result.
    """

    async def patients(self, conn: asyncpg.Connection) -> Sequence[str]:
        """Whom a sweep of this tenant must visit: all that the index should hold, and all that it does hold."""
        ...

    async def prepare(self, database: Database, tenant: str, patient: str) -> Write:
        """Read and compute, in transactions of its own: it may take its time, nothing is locked. Returns the write,
        which runs once in the transaction that ends the job. A JobError says why it can't be done; of any other error
        only the type is told."""
        ...
