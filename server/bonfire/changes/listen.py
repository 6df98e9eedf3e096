"""The change source for databases whose WAL can't be read: an outbox, and LISTEN to be told of it at once.

Invariant: notifications only wake; what is delivered is what the outbox holds after the last commit delivered. So a
notification that is late, doubled or lost changes nothing but the delay, and after a cut the source goes on exactly
where it was. It costs the writers: their commits take turns (one lock, held over the commit), and messages are
written twice.
"""

import asyncio
import logging

from bonfire.changes.decode import UnreadableMessage, decode_message
from bonfire.changes.gathering import Gathering
from bonfire.changes.housekeeping import keep_house
from bonfire.changes.outbox import OutboxCommit, OutboxConnection, Place
from bonfire.changes.side import Side
from bonfire.changes.source import Lag, Sink, SourceKind, SourceUnavailable
from bonfire.changes.timing import Timing
from bonfire.engine.commit import Commit

_log = logging.getLogger(__name__)


class ListenSource:
    """Reads the outbox of the database at `url`, whose role must own bonfire's schema."""

    def __init__(self, url: str, timing: Timing) -> None:
        self._url = url
        self._timing = timing
        self._side = Side(url, timing.silence)
        self._connection: OutboxConnection | None = None
        self._place = Place(0, 0)
        self._told = 0
        self._newest = 0
        self._level = timing.monotonic()
        self._stream = ""
        self._wake = asyncio.Event()
        self._watermark_due = False
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def kind(self) -> SourceKind:
        return "listen"

    @property
    def stream(self) -> str:
        return self._stream

    @property
    def lag(self) -> Lag | None:
        if self._connection is None:
            return None
        behind = self._newest - self._told
        return Lag(behind, self._timing.monotonic() - self._level) if behind > 0 else Lag(0, 0.0)

    async def start(self, sink: Sink) -> int:
        connection = await self._open()
        try:
            self._place, self._told = await connection.newest()
        except BaseException:
            await connection.close()
            raise
        self._connection = connection
        self._tasks = [
            asyncio.create_task(self._keep(connection, sink)),
            asyncio.create_task(self._beat()),
            asyncio.create_task(keep_house(self._side, self._timing, reading=True)),
        ]
        return self._told

    def nudge(self, position: int) -> None:
        if position > self._told:
            self._watermark_due = True
            self._wake.set()

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks = []
        if self._connection is not None:
            await self._connection.close()
            self._connection = None
        await self._side.close()

    async def _open(self) -> OutboxConnection:
        """A connection that listens to an outbox that is on: whatever commits from now on, it can find."""
        connection = await OutboxConnection.open(self._url, self._timing, self._notified)
        try:
            await connection.switch_on()
            self._stream = (await connection.lineage()).stream(self.kind)
        except BaseException:
            await connection.close()
            raise
        return connection

    def _notified(self, position: int | None) -> None:
        if position is None or position > self._place.position:
            self._wake.set()

    async def _beat(self) -> None:
        """The safety net: look from time to time, whether told to or not."""
        while True:
            await self._timing.sleep(self._timing.heartbeat)
            self._watermark_due = True
            self._wake.set()

    async def _keep(self, connection: OutboxConnection, sink: Sink) -> None:
        """Follow the outbox, over this connection first, until cancelled."""
        exact = True
        while True:
            try:
                await self._follow(connection, sink)
            except SourceUnavailable as error:
                reason = str(error)
            except Exception as error:
                # A sink that broke its promise: what it has taken in is unknown.
                _log.exception("taking in changes failed")
                reason = f"the changes could not be taken in ({type(error).__name__})"
                exact = False
            _log.warning("the change stream ended: %s", reason)
            self._connection = None
            await connection.close()
            sink.down(reason)
            connection = await self._take_up(sink, exact)
            self._connection = connection
            exact = True

    async def _take_up(self, sink: Sink, exact: bool) -> OutboxConnection:
        """Connect again, and say from where the stream goes on: exactly where it was, if that can be."""
        said = ""
        attempt = 0
        while True:
            await self._timing.sleep(self._timing.pause(attempt))
            attempt += 1
            try:
                connection = await self._open()
                try:
                    if exact and (await connection.after(self._place)).whole:
                        sink.up(self._told)
                    else:
                        await self._start_afresh(connection, sink)
                except BaseException:
                    await connection.close()
                    raise
            except SourceUnavailable as error:
                if str(error) != said:
                    _log.warning("the change stream can't be taken up again yet: %s", error)
                    said = str(error)
            except Exception:
                _log.exception("taking the change stream up again failed")
            else:
                _log.info("the change stream goes on, after %d attempts", attempt)
                self._watermark_due = True
                self._wake.set()
                return connection

    async def _start_afresh(self, connection: OutboxConnection, sink: Sink) -> None:
        self._place, self._told = await connection.newest()
        self._newest = self._told
        sink.gap("commits may have been missed: the outbox no longer holds them")
        sink.up(self._told)

    async def _follow(self, connection: OutboxConnection, sink: Sink) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            due, self._watermark_due = self._watermark_due, False
            # Asked for before the commits are read: what it covers is visible to that reading.
            asked_at = self._timing.monotonic()
            watermark = await connection.watermark() if due else None
            self._newest = max(self._newest, watermark or 0)
            if not await self._read_on(connection, sink):
                await connection.switch_on()
                await self._start_afresh(connection, sink)
            elif due:
                # While a commit is under way there is no better position than the last commit's.
                self._told = max(self._told, watermark or 0)
                self._level = self._timing.monotonic()
                sink.watermark(self._told, self._level - asked_at)

    async def _read_on(self, connection: OutboxConnection, sink: Sink) -> bool:
        """Deliver all that is to be read; false when some of it is no longer there."""
        while True:
            batch = await connection.after(self._place)
            if not batch.whole:
                return False
            for commit in batch.commits:
                if not await self._deliver(connection, commit, sink):
                    return False
            if not batch.more:
                return True

    async def _deliver(self, connection: OutboxConnection, commit: OutboxCommit, sink: Sink) -> bool:
        """Deliver a commit; false when its messages are no longer there."""
        place, gathering = commit.place, Gathering()

        def take(message: str) -> None:
            gathering.add(decode_message(message), len(message))

        try:
            for message in commit.messages:
                take(message)
            if commit.large and not await connection.messages_of(place, take):
                return False
            gathered = gathering.finish()
        except UnreadableMessage as error:
            _log.error("a commit can't be read, so all live data is read afresh: %s", error)
            self._note(place)
            sink.gap(str(error))
            sink.up(self._told)
        else:
            self._note(place)
            if gathered.messages or gathered.bulk:
                sink.commit(Commit(place.position, place.xid, gathered.messages, commit.at, gathered.bulk))
        return True

    def _note(self, place: Place) -> None:
        self._place = place
        self._told = max(self._told, place.position)
