"""One replication stream, from its first frame to its end: what it brings to the sink, and how far it is said to be.

Invariants: the sink hears of commits in order, and of no watermark that lies behind a commit still to come. A
watermark is said only when the stream has caught up with where the database was at the last heartbeat: a stream that
lags keeps still, so that old data never poses as current.
"""

import asyncio
import logging
from collections.abc import Coroutine

from bonfire.changes.assembler import Advanced, Assembler, Unreadable
from bonfire.changes.ends import Ends
from bonfire.changes.gate import Gate
from bonfire.changes.housekeeping import keep_house
from bonfire.changes.looks import Look, Looks
from bonfire.changes.source import Lag, Sink, SourceUnavailable
from bonfire.changes.timing import Timing
from bonfire.changes.walsender import Walsender
from bonfire.engine.commit import Commit
from bonfire.engine.visibility import Cut

_log = logging.getLogger(__name__)

ACKNOWLEDGE_EVERY = 0.25
"""Seconds. What is not acknowledged is WAL that the database keeps: a quarter of a second of it is nothing."""


class Reader:
    """Reads `walsender` for `sink` from `attach` until `finished` says why it is over, or until `close`."""

    def __init__(
        self,
        walsender: Walsender,
        ends: Ends,
        newest_xid: int,
        sink: Sink,
        timing: Timing,
        *,
        behind: bool = False,
    ) -> None:
        self.finished: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self.position = walsender.position
        self.lineage = walsender.lineage
        self.behind = behind
        self._walsender = walsender
        self._ends = ends
        self._gate = Gate(sink)
        self._timing = timing
        self._assembler = Assembler(walsender.position, newest_xid)
        self._told = walsender.position
        self._database = walsender.position
        self._goal: tuple[int, float] | None = None
        self._asked_at = timing.monotonic()
        self._acknowledged = walsender.position
        self._acknowledging = False
        self._target = walsender.position
        self._mark = walsender.position
        self._heard = timing.monotonic()
        self._level = self._heard
        self._reply_owed = False
        self._asked = False
        self._ask_again = False
        self._looks = Looks(walsender.position)
        self._tasks: set[asyncio.Task[None]] = set()
        self._pursuit: asyncio.Task[None] | None = None

    @classmethod
    async def open(cls, ends: Ends, sink: Sink, timing: Timing) -> "Reader":
        """SourceUnavailable says why there can be none; then nothing is left behind."""
        walsender = await Walsender.open(ends, timing)
        try:
            progress = await ends.primary.progress()
            behind = walsender.standby and not await ends.replays(progress.flushed, timing)
            return cls(walsender, ends, progress.xid, sink, timing, behind=behind)
        except BaseException:
            await walsender.close()
            raise

    def attach(self, *, is_down: bool) -> None:
        """`is_down`: the sink knows that the stream was cut."""
        if self.behind:
            self._gate.fall_behind()
            if not is_down:
                asyncio.get_running_loop().call_soon(self._gate.say_behind)
        self._walsender.attach(self)
        self._spawn(self._beat())
        self._spawn(keep_house(self._ends.primary, self._timing, reading=False))

    def nudge(self, position: int) -> None:
        """See to it that the sink hears of `position` soon."""
        if position <= max(self._told, self._target) or self.finished.done():
            return
        self._target = position
        # Twice: the first answer may come from just before the server has read what is there to be read.
        self._ask_again = True
        if not self._asked:
            self._ask()
        if self._pursuit is None or self._pursuit.done():
            self._pursuit = self._spawn(self._pursue())

    @property
    def is_up(self) -> bool:
        """Whether the sink takes it for live."""
        return not self._gate.closed

    @property
    def lag(self) -> Lag:
        """See `ChangeSource.lag`."""
        behind = self._database - self._assembler.position
        return Lag(behind, self._timing.monotonic() - self._level) if behind > 0 else Lag(0, 0.0)

    async def cut(self, look: Look) -> Cut | None:
        """See `ReplicationSource.cut`. Other than of a watermark, of this it is no matter how old it is."""
        passed = self._looks.passed(look)
        if not passed.done():
            self.nudge(look.until)
        try:
            await asyncio.wait((passed, self.finished), return_when=asyncio.FIRST_COMPLETED)
            if not passed.done():
                raise SourceUnavailable("the change stream is cut", retry=True)
        finally:
            passed.cancel()
        return self._looks.cut(look, self._told)

    async def close(self) -> None:
        """Deliver nothing from now on, and see the slot gone where the database answers."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._walsender.close()
        try:
            await self._ends.read.end_walsender(self._walsender.slot)
        except SourceUnavailable:
            # The database is away; the slot goes with the connection when it notices.
            pass

    # What the walsender says.

    def frame(self, data: memoryview) -> None:
        match self._assembler.feed(data):
            case None:
                pass
            case Commit() as commit:
                self._told = commit.position
                self._note(commit.position, commit.xid)
                self._gate.commit(commit)
            case Unreadable(position, xid, reason):
                _log.error("a commit can't be read, so all live data is read afresh: %s", reason)
                self._told = position
                if xid is not None:
                    self._note(position, xid)
                watched = self._gate.closed
                self._gate.lose(position, xid, reason)
                if self._walsender.standby:
                    # What it delivers, it has replayed.
                    self._gate.look(None)
                elif not watched:
                    self._spawn(self._open_gate())
            case Advanced(keepalive, reply_requested):
                self._reply_owed |= reply_requested
                if keepalive:
                    self._asked = False

    def _note(self, position: int, xid: int) -> None:
        if self._walsender.standby:
            self._looks.note(self._assembler.commit_start, position, xid)

    def drained(self) -> None:
        self._heard = self._timing.monotonic()
        position = self._assembler.position
        self._looks.advance(position)
        if self.behind and self._goal is not None and position >= self._goal[0]:
            _log.info("the replica has caught up with the primary")
            self.behind = False
            self._told = position
            self._gate.catch_up(position)
        if position > self._told and position >= self._database:
            self._told = position
            self._gate.watermark(position, self._heard - self._asked_at)
        if position >= self._database:
            self._level = self._heard
        if self._ask_again and not self._asked:
            self._ask_again = False
            if self._told < self._target:
                self._ask()
        if self._reply_owed:
            self._acknowledge(position)
        elif position > self._acknowledged and not self._acknowledging:
            self._acknowledging = True
            self._spawn(self._acknowledge_soon())

    def ended(self, reason: str) -> None:
        if not self.finished.done():
            self.finished.set_result(reason)

    # What happens by itself.

    async def _beat(self) -> None:
        while True:
            await self._timing.sleep(self._timing.heartbeat)
            silent = self._timing.monotonic() - self._heard
            if silent > self._timing.silence:
                self.ended(f"the database has said nothing for {silent:.0f} s")
                return
            if silent >= self._timing.heartbeat:
                self._ask()
            asked_at = self._timing.monotonic()
            try:
                progress = await self._ends.primary.progress()
                promoted = self._walsender.standby and not await self._ends.read.is_standby()
            except SourceUnavailable as error:
                _log.warning("whether the change stream keeps up is unknown: %s", error)
                continue
            if promoted or progress.timeline != self.lineage.timeline:
                # Either is a moment after which the two may be different databases.
                self.ended("the replica was promoted" if promoted else "another server has become the primary")
                return
            self._assembler.note_xid(progress.xid)
            self._database = progress.flushed
            self._asked_at = asked_at
            if self._goal is None or asked_at - self._goal[1] > 2 * self._timing.heartbeat:
                self._goal = (progress.flushed, asked_at)
            if self._told >= progress.flushed:
                self._level = self._timing.monotonic()
                self._gate.watermark(self._told, self._level - asked_at)
            else:
                self.nudge(progress.flushed)

    async def _open_gate(self) -> None:
        """Look until snapshots show what could not be read."""
        while self._gate.closed:
            try:
                self._gate.look(await self._ends.read.visibility())
            except SourceUnavailable as error:
                _log.warning("whether a commit is visible yet is unknown: %s", error)
            if self._gate.closed:
                await self._timing.sleep(self._timing.patience)

    async def _pursue(self) -> None:
        """Ask, and where asking does not help, write: the end of the WAL may be neither on disk (what a reading
        transaction leaves) nor the end of a record (a page's header)."""
        pause = self._timing.patience
        while self._told < self._target:
            await self._timing.sleep(pause)
            if self._told >= self._target:
                return
            if self._told >= self._mark:
                # Otherwise the last mark is still on its way, so the stream lags, and another mark would lag behind it.
                try:
                    self._mark = await self._ends.primary.mark()
                except SourceUnavailable as error:
                    _log.warning("the end of the WAL can't be brought about: %s", error)
            self._ask()
            pause = min(pause * 2, self._timing.heartbeat)

    def _ask(self) -> None:
        self._asked = True
        self._acknowledge(self._assembler.position, reply_requested=True)

    async def _acknowledge_soon(self) -> None:
        """Once for all commits of a moment: one for each would cost a send before anything reaches a client."""
        await self._timing.sleep(ACKNOWLEDGE_EVERY)
        self._acknowledging = False
        self._acknowledge(self._assembler.position)

    def _acknowledge(self, position: int, *, reply_requested: bool = False) -> None:
        self._acknowledged = position
        self._reply_owed = False
        self._walsender.send_status(position, reply_requested=reply_requested)

    def _spawn(self, work: Coroutine[None, None, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)
        return task

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.error("watching the change stream failed", exc_info=error)
            self.ended(f"the change stream could not be watched ({type(error).__name__})")
