"""The ends of a change stream: the server whose WAL is read, and the primary, by which it is judged. Without a replica
both are one."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from bonfire.changes.lineage import Lineage
from bonfire.changes.side import Side
from bonfire.changes.source import SourceUnavailable
from bonfire.changes.timing import Timing

_log = logging.getLogger(__name__)

# Between two words to the primary while a slot is being made on a standby: at first, and at most. Each is a record of
# some hundred bytes in the primary's WAL; two or three of them are needed.
_ASK_FIRST = 0.05
_ASK_LAST = 1.0

# How long a replica may take to come as far as the primary was, without being called behind; and between two looks.
_KEEPS_UP = 1.0
_LOOK_EVERY = 0.01

# Between two lines of the log about what a slot on a standby waits for.
_TELL_EVERY = 5.0


class Ends:
    """`url`: the server that is read from; `primary`: the URL of another one, whose replica it is."""

    def __init__(self, url: str, primary: str | None, patience: float) -> None:
        self.url = url
        self.read = Side(url, patience)
        self.primary = self.read if primary is None else Side(primary, patience)

    @property
    def replica(self) -> bool:
        """Whether the reading end is meant to be another server than the primary."""
        return self.read is not self.primary

    async def check(self) -> bool:
        """Whether the reading end is a standby. SourceUnavailable says why it can't be read from."""
        return await self.read.check(replica=self.replica)

    async def agree(self, lineage: Lineage) -> None:
        """Raise SourceUnavailable when what the reading end says to be is not what the primary writes."""
        if not self.replica:
            return
        primary = await self.primary.lineage()
        if lineage.system != primary.system or lineage.database != primary.database:
            raise SourceUnavailable(
                "BONFIRE_READ_URL names another database than a replica of DATABASE_URL's", retry=False
            )
        if lineage.timeline != primary.timeline:
            raise SourceUnavailable(
                f"the replica is on timeline {lineage.timeline} and the primary on {primary.timeline}: one of them was "
                "promoted, and the replica does not follow the primary now",
                retry=True,
            )

    async def replays(self, position: int, timing: Timing) -> bool:
        """Whether the replica comes as far as that in a moment."""
        deadline = timing.monotonic() + _KEEPS_UP
        while await self.read.replayed() < position:
            if timing.monotonic() > deadline:
                return False
            await timing.sleep(_LOOK_EVERY)
        return True

    @asynccontextmanager
    async def helping(self, timing: Timing, *, standby: bool) -> AsyncIterator[None]:
        """While a slot is being made inside: see to it, on a standby, that it is found soon where to start."""
        if not standby:
            yield
            return
        helping = asyncio.create_task(self._help(timing))
        try:
            yield
        finally:
            helping.cancel()
            await asyncio.gather(helping, return_exceptions=True)

    async def _help(self, timing: Timing) -> None:
        pause = _ASK_FIRST
        told = False
        lagging_since = timing.monotonic()
        while True:
            await timing.sleep(pause)
            pause = min(2 * pause, _ASK_LAST)
            if timing.monotonic() - lagging_since > _TELL_EVERY:
                lagging_since = timing.monotonic()
                await self._tell_of_lag()
            try:
                await self.primary.log_running()
            except SourceUnavailable as error:
                if not told:
                    told = True
                    _log.warning(
                        "the primary can't be asked to help a slot on its replica, which may take minutes longer "
                        "without; where it is for lack of a right: "
                        "GRANT EXECUTE ON FUNCTION pg_log_standby_snapshot() (%s)",
                        error,
                    )

    async def _tell_of_lag(self) -> None:
        try:
            behind = (await self.primary.progress()).flushed - await self.read.replayed()
        except SourceUnavailable:
            return
        if behind > 0:
            _log.warning(
                "the replica is %d bytes behind the primary: the change stream starts when it has replayed them", behind
            )

    async def close(self) -> None:
        await self.read.close()
        if self.replica:
            await self.primary.close()
