"""The change source that reads the WAL by logical replication. It costs the writers nothing.

Invariant: whatever ends a stream (a cut, a restart, a lost slot, a stream that makes no sense), the sink is told
`down`, and, when another stream has begun, `gap` and `up`: a temporary slot can't go on where it was, so commits may
lie between.
"""

import asyncio
import logging

from bonfire.changes.ends import Ends
from bonfire.changes.looks import Look
from bonfire.changes.reader import Reader
from bonfire.changes.source import Lag, Sink, SourceKind, SourceUnavailable
from bonfire.changes.timing import Timing
from bonfire.changes.walsender import Walsender
from bonfire.engine.visibility import Cut

_log = logging.getLogger(__name__)


class ReplicationSource:
    """Reads the WAL of the database at `url`, whose role must be allowed to (REPLICATION). `primary`: the URL of
    another server whose replica that one is: how fresh the stream is, is then judged by the primary."""

    def __init__(self, url: str, timing: Timing, *, primary: str | None = None) -> None:
        self._timing = timing
        # A third of the silence that ends a stream, so that a dead database is noticed before that.
        self._ends = Ends(url, primary, timing.silence / 3)
        self._stream = ""
        self._reader: Reader | None = None
        self._keeper: asyncio.Task[None] | None = None

    @property
    def kind(self) -> SourceKind:
        return "wal"

    @property
    def stream(self) -> str:
        return self._stream

    @property
    def lag(self) -> Lag | None:
        return None if self._reader is None else self._reader.lag

    async def probe(self) -> None:
        """Whether the WAL can be read here: try it, and leave nothing behind. SourceUnavailable says why it can't."""
        try:
            walsender = await Walsender.open(self._ends, self._timing)
            await walsender.close()
            await self._ends.read.end_walsender(walsender.slot)
        finally:
            await self._ends.close()

    async def start(self, sink: Sink) -> int:
        try:
            reader = await Reader.open(self._ends, sink, self._timing)
        except BaseException:
            await self._ends.close()
            raise
        self._stream = reader.lineage.stream(self.kind)
        reader.attach(is_down=False)
        self._reader = reader
        self._keeper = asyncio.create_task(self._keep(reader, sink))
        return reader.position

    def nudge(self, position: int) -> None:
        if self._reader is not None:
            self._reader.nudge(position)

    async def cut(self, look: Look) -> Cut | None:
        """What exactly a standby's snapshot sees, told once the stream has brought all of that; None when that can't be
        known, and another snapshot must be taken. Raises SourceUnavailable when the stream ends meanwhile."""
        if self._reader is None:
            raise SourceUnavailable("the change stream is cut", retry=True)
        return await self._reader.cut(look)

    async def stop(self) -> None:
        if self._keeper is not None:
            self._keeper.cancel()
            await asyncio.gather(self._keeper, return_exceptions=True)
            self._keeper = None
        if self._reader is not None:
            await self._reader.close()
            self._reader = None
        await self._ends.close()

    async def _keep(self, reader: Reader, sink: Sink) -> None:
        """Keep a stream, this one first, until cancelled."""
        while True:
            reason = await reader.finished
            _log.warning("the change stream ended: %s", reason)
            if reader.is_up:
                sink.down(reason)
            await reader.close()
            self._reader = None
            reader = await self._open_again(sink)
            self._stream = reader.lineage.stream(self.kind)
            if not reader.behind:
                sink.gap("the change stream was cut, and commits may have been missed")
                sink.up(reader.position)
            reader.attach(is_down=True)
            self._reader = reader

    async def _open_again(self, sink: Sink) -> Reader:
        said = ""
        attempt = 0
        while True:
            await self._timing.sleep(self._timing.pause(attempt))
            attempt += 1
            try:
                reader = await Reader.open(self._ends, sink, self._timing)
            except SourceUnavailable as error:
                if str(error) != said:
                    _log.warning("the change stream can't be taken up again yet: %s", error)
                    said = str(error)
            except Exception:
                _log.exception("taking the change stream up again failed")
            else:
                _log.info("the change stream goes on from a new place, after %d attempts", attempt)
                return reader
