"""The hub: feeds the engine with commits and reads, and sends what it owes to the connections.

It holds the node's only engine. Everything here runs on one event loop; the engine is called between awaits and never
across one, so that each of its steps is atomic.
"""

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable, Collection
from typing import Protocol, cast

from bonfire.changes.source import ChangeSource
from bonfire.engine.commit import Commit, IndexProgress
from bonfire.engine.delivery import Outgoing
from bonfire.engine.live import LiveEngine
from bonfire.engine.query import Plan
from bonfire.engine.reads import Answer, Read
from bonfire.engine.rota import SHARES
from bonfire.engine.session import Session
from bonfire.sync.admission import Admission
from bonfire.sync.commit_watch import CommitWatch, trace_of_read
from bonfire.sync.fanout import Flusher, Wire, spelled, ways
from bonfire.sync.positions import Positions
from bonfire.sync.reader import Reader
from bonfire.telemetry.metrics import WORK_SECONDS, Histogram
from bonfire.telemetry.tracing import Tracing
from bonfire_protocol.faults import Fault, FaultCode

log = logging.getLogger("bonfire.hub")

READS_AT_ONCE = 6
"""Reads under way at once, more than one tenant may have: what waits meanwhile is read together, which is what
conflates a burst of commits."""

POSITION_TIMEOUT = 2.0
"""Seconds that a mutation's answer waits for its commit to come by before it says an upper bound instead."""

BOUND_TIMEOUT = 10.0
"""Seconds that an answer waits for the database to say such an upper bound."""

HELD_TRANSITIONS = 1000
"""How many transitions are held for a peer whose reads don't come back, before they become one, of the newest."""

READ_ATTEMPTS = 3
"""How often a query is read when the change stream is cut meanwhile."""

CATCH_UP_SECONDS = 5.0
"""How long a read waits for a replica to come as far as what its caller has written."""

READ_TIMEOUT = 600.0
"""Seconds after which a read is given up and done again: its connection may be a dead one that nobody has told of. More
than a whole batch of the slowest queries takes."""


class Peer(Protocol):
    """A connection, as the hub sees it: the `key` of an engine session."""

    wire: Wire

    def cut(self) -> None: ...


class Author(Protocol):
    """Who has sent a mutation."""

    def indexed(self, progress: IndexProgress) -> None: ...
    def committed(self, mutation: str, position: int) -> None: ...


class Hub:
    """One node's live side. `heartbeat`: seconds between watermarks to clients. `check_every`: seconds between two
    checks of a live query against its source; 0 for none. `wake_lanes` is called when a commit wrote one of
    `lane_sources`. `admission` is told of the commits that change what callers may
    see. `tracing`: where it is told what became of the commits of mutations."""

    def __init__(
        self,
        source: ChangeSource,
        reader: Reader,
        *,
        heartbeat: float,
        check_every: float,
        wake_lanes: Callable[[], None],
        lane_sources: Collection[str],
        admission: Admission,
        tracing: Tracing | None = None,
    ) -> None:
        self.admission = admission
        self.engine = LiveEngine(0)
        self.flusher = Flusher()
        self.source = source
        self.reader = reader
        self.commits = 0
        self.gaps = 0
        self.cut_off = 0
        self.read_seconds = Histogram(WORK_SECONDS)
        self.watch = CommitWatch(self.flusher, tracing)
        self._heartbeat = heartbeat
        self._check_every = check_every
        self._wake_lanes = wake_lanes
        self._lane_sources = lane_sources
        self._heard_at = 0.0
        self._stream = ""
        self._failing: set[str] = set()
        self._reads: set[asyncio.Task[None]] = set()
        self._beats: list[asyncio.Task[None]] = []
        self._positions = Positions()
        self._advance: asyncio.Event = asyncio.Event()
        self._mutations: dict[tuple[str, str], Author] = {}

    async def start(self) -> None:
        """Go live: from here on every commit is seen. Raises what the change source raises."""
        # Of what was before, this node knows nothing.
        self.engine = LiveEngine(await self.source.start(self))
        self._stream = self.source.stream
        self._heard_at = asyncio.get_running_loop().time()
        self._beats = [
            asyncio.create_task(self._every(self._heartbeat / SHARES, "heartbeat", self._beat)),
            asyncio.create_task(self._every(self._heartbeat, "conflation", self._conflate)),
            asyncio.create_task(self._every(0.25, "look", self._look)),
        ]
        if self._check_every:
            self._beats.append(asyncio.create_task(self._every(self._check_every, "self-check", self._check)))

    @property
    def reads(self) -> int:
        """How many reads are under way."""
        return len(self._reads)

    @property
    def watermark_age(self) -> float:
        """Seconds since the stream last said that it keeps up with the database: how old what is shown may be."""
        return asyncio.get_running_loop().time() - self._heard_at

    @property
    def failing(self) -> list[str]:
        """What of this node's own work went wrong, and has not gone well since: it is in the log."""
        return sorted(self._failing)

    async def stop(self) -> None:
        await self.admission.stop()
        for task in [*self._beats, *self._reads]:
            task.cancel()
        await asyncio.gather(*self._beats, *self._reads, return_exceptions=True)
        await self.source.stop()

    # ---- what the change source says (bonfire.changes.source.Sink) ------------------------------------------

    def commit(self, commit: Commit) -> None:
        self.commits += 1
        self.watch.begin(commit)
        for message in commit.messages:
            if message.mutation is not None and message.tenant is not None:
                # Its answer must go out before its transition: see `Writing.committed`.
                author = self._mutations.get((message.tenant, message.mutation))
                if author is not None:
                    author.committed(message.mutation, commit.position)
        self.admission.commit(commit)
        self.engine.commit(commit)
        self.pump()
        self.watch.end(commit)
        self._positions.note(commit.xid, commit.position)
        for message in commit.messages:
            if message.index is not None and message.tenant is not None:
                author = self._mutations.get((message.tenant, message.index.mutation))
                if author is not None:
                    author.indexed(message.index)
        self._advance.set()
        if any(message.source in self._lane_sources for message in commit.messages):
            self._wake_lanes()

    def watermark(self, position: int, age: float = 0.0) -> None:
        self._hear(age)
        self.engine.watermark(position)
        self._advance.set()
        self.pump()

    def down(self, reason: str) -> None:
        log.warning("the change stream is cut: %s", reason)
        self.engine.down("the server has lost sight of the database's changes")
        self.pump()

    def gap(self, reason: str) -> None:
        self.gaps += 1
        log.warning("commits may have been missed (%s): every live query is read afresh", reason)
        self.admission.gap(self.engine.position)
        self.engine.gap()
        self.pump()

    def up(self, position: int) -> None:
        # No word of freshness: what was missed meanwhile may be still to come.
        log.info("the change stream is live")
        if position < self.engine.position or self.source.stream != self._stream:
            self._start_over(position)
        self.admission.up()
        self.engine.up(position)
        self._advance.set()
        self.pump()

    def _hear(self, age: float = 0.0) -> None:
        self._heard_at = max(self._heard_at, asyncio.get_running_loop().time() - age)

    def _start_over(self, position: int) -> None:
        """Another database has taken this one's place, which may lack its last commits, and gives their positions to
        others. What clients were shown then never was: they are cut off, and start from fresh snapshots."""
        log.error("the database is another one, or behind what was shown already: all clients start over")
        self._stream = self.source.stream
        sessions = self.engine.sessions()
        self.engine = LiveEngine(position)
        self._positions = Positions()
        self.admission.start_over()
        for session in sessions:
            _peer(session).cut()

    # ---- engine -> sockets and database ---------------------------------------------------------------------

    def pump(self) -> None:
        """Do what the engine owes: send frames, start reads, ask the stream to hurry. Call after each engine call."""
        for outgoing in self.engine.take_outgoing():
            self._send(outgoing)
        for name in self.engine.checks.take_differed():
            log.error("a result of %s was not what its source says: it was sent anew to all who hold it", name)
        while len(self._reads) < READS_AT_ONCE:
            read = self.engine.next_read()
            if read is None:
                break
            tracing = self.watch.tracing
            task = asyncio.create_task(self._read(read) if tracing is None else self._traced(tracing, read))
            self._reads.add(task)
            task.add_done_callback(self._read_done)
        awaited = self.engine.awaited
        if awaited is not None and awaited > self.engine.position:
            self.source.nudge(awaited)

    def _send(self, outgoing: Outgoing) -> None:
        audience = outgoing.audience
        self.flusher.sent.frames += len(outgoing.frames) * len(audience.sessions)
        if len(audience.sessions) == 1:
            _peer(audience.sessions[0]).wire.give(outgoing.frames)
            return
        if audience.ways is None:
            audience.ways = ways(_peer(session).wire for session in audience.sessions)
        for spelling, way in audience.ways:
            if self.flusher.clogged and not self.flusher.clogged.isdisjoint(way.wires):
                # Some have not taken yet what came before this.
                for wire in way.wires:
                    wire.give(outgoing.frames)
                continue
            framed = spelled(outgoing.frames, spelling)
            if framed is not None:
                self.flusher.queue(framed, way)
            else:
                for wire in way.wires:
                    wire.abort()

    async def _traced(self, tracing: Tracing, read: Read) -> None:
        trace = trace_of_read(tracing, read)
        try:
            await self._read(read)
            frames, size = self.flusher.sent.frames, self.flusher.sent.bytes
            self.pump()
            if trace is not None:
                trace.queued(self.flusher.sent.frames - frames, self.flusher.sent.bytes - size)
        finally:
            if trace is not None:
                trace.end()

    async def _read(self, read: Read) -> None:
        engine = self.engine
        clock = asyncio.get_running_loop().time
        begun = clock()
        try:
            async with asyncio.timeout(READ_TIMEOUT):
                snapshot = await self.reader.read(read)
        except Exception as error:
            if isinstance(error, Fault) and error.next == "stop":
                engine.failed(read.ticket, error)
                return
            # Whatever went wrong with the batch, its queries are owed still; a query's own fault is an answer instead.
            log.warning("a read of %d live queries is put off: %s", len(read.wanted), type(error).__name__)
            await asyncio.sleep(random.uniform(0.05, 0.5))
            engine.postponed(read.ticket)
        else:
            self.read_seconds.observe(clock() - begun)
            engine.landed(read.ticket, snapshot.visibility, snapshot.bound, snapshot.answers)
            self.watch.landed(read)

    def _read_done(self, task: asyncio.Task[None]) -> None:
        self._reads.discard(task)
        if task.cancelled():
            return
        error = task.exception()
        if error is not None:
            # Its queries are held up for good: this node is not what it should be until it is started again.
            log.error("the engine failed at a read", exc_info=error)
            self._failing.add("read")
        self.pump()

    async def _every(self, seconds: float, name: str, work: Callable[[], Awaitable[None]]) -> None:
        """Do `work` again and again. It never ends by failing: that is logged, and told by `failing` until it goes well
        again."""
        while True:
            await asyncio.sleep(seconds)
            try:
                await work()
            except Exception:
                if name not in self._failing:
                    log.exception("the live server's %s failed", name)
                self._failing.add(name)
            else:
                self._failing.discard(name)

    @property
    def _hears(self) -> bool:
        """Whether the stream gave its word lately: by the clock, because this process may have been stopped since."""
        return self.watermark_age < 2 * self._heartbeat

    async def _beat(self) -> None:
        # A watermark is the stream's word that it keeps up with the database; commits alone may be old ones. Without
        # one the clients get none either, and go stale.
        self.engine.beat(vouched=self._hears)
        self.pump()

    async def _conflate(self) -> None:
        for session in self.engine.sessions():
            if len(session.held) > HELD_TRANSITIONS:
                self.engine.park(session)
                self.engine.unpark(session)
        self.pump()

    async def _check(self) -> None:
        self.engine.sample(random.random())
        self.pump()

    async def _look(self) -> None:
        """Lets the engine's history shrink when no read does."""
        engine = self.engine
        if not engine.counts["recent_commits"] or engine.is_down:
            return
        try:
            async with asyncio.timeout(READ_TIMEOUT):
                visibility = await self.reader.visibility()
        except (Fault, TimeoutError):
            # The database is away; whoever needs to know hears of it from elsewhere.
            return
        engine.seen(visibility)

    # ---- what connections ask -------------------------------------------------------------------------------

    def join(self, peer: Peer, tenant: str, *, since: int | None = None) -> Session:
        """A client is there. What it is given while the stream is silent may be old, and it is told so."""
        return self.engine.join(peer, tenant, since=since, vouched=self._hears)

    def expect_index(self, tenant: str, mutation: str, author: Author) -> None:
        """`author` wants to be told how the indexes of this mutation get on."""
        self._mutations[(tenant, mutation)] = author

    def forget_index(self, tenant: str, mutation: str, author: Author) -> None:
        """`author` wants it no more. Another one may have sent the same mutation again meanwhile."""
        if self._mutations.get((tenant, mutation)) is author:
            del self._mutations[(tenant, mutation)]

    async def read_once(self, tenant: str, plan: Plan, *, after: int) -> tuple[Answer, int]:
        """A query's answer, and a position that it surely reflects: not before `after`, which has been committed. Fault
        `unavailable` when none is to be had."""
        if after > self.engine.position and self.reader.may_lag and not await self.reach(after, CATCH_UP_SECONDS):
            raise Fault(FaultCode.unavailable, "What this node reads from has not come as far as your last write yet.")
        for _ in range(READ_ATTEMPTS):
            engine = self.engine
            ticket = engine.look()
            try:
                snapshot = await self.reader.read_once(tenant, plan)
                position = engine.looked(ticket, snapshot.visibility)
            finally:
                engine.look_away(ticket)
            if position is not None and engine is self.engine:
                (answer,) = snapshot.answers
                return answer, position
        raise Fault(FaultCode.unavailable, "The change stream was cut while this was read.")

    async def position_of(self, xid: int, *, new: bool) -> int:
        """The commit position of a committed transaction; where the stream does not tell in time, or has told long ago
        (it is not `new`), a position that is certainly not before it."""
        wait = POSITION_TIMEOUT if new and not self.engine.is_down else 0.0
        position = await self._positions.of(xid, wait)
        if position is not None:
            return position
        return await self._bound()

    async def _bound(self) -> int:
        """An upper bound, over an outage if need be: what has committed must not be answered as failed."""
        deadline = asyncio.get_running_loop().time() + BOUND_TIMEOUT
        while True:
            try:
                return await self.reader.bound()
            except Fault:
                if asyncio.get_running_loop().time() > deadline:
                    raise
                await asyncio.sleep(random.uniform(0.05, 0.5))

    async def may_serve(self, position: int, timeout: float) -> bool:
        """Whether a client that has seen `position` may be served here: not while this node is behind the database.

        If the database itself has no such position (it was put back from a backup), a fresh start is all there is;
        and while it is away, there is nothing to show that could be older.
        """
        if position <= self.engine.position:
            return True
        try:
            end: int | None = await self.reader.end()
        except Fault:
            end = None
        if end is None or end >= position:
            # Only then is the stream told to hurry: after what does not exist, it would hurry for ever.
            if await self.reach(position, timeout):
                return True
            if end is not None and not self.engine.is_down:
                return False
        # A replica shows older results when it is there again.
        return not self.reader.may_lag

    async def reach(self, position: int, timeout: float) -> bool:
        """Wait until this node has come as far as `position`: a client that has seen it must not see less here."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout
        while self.engine.position < position or self.engine.is_down:
            self._advance.clear()
            self.source.nudge(position)
            try:
                await asyncio.wait_for(self._advance.wait(), max(0.0, deadline - loop.time()))
            except TimeoutError:
                return False
        return True


def _peer(session: Session) -> Peer:
    # Every session's key is one: see `join`.
    return cast(Peer, session.key)
