"""The hub: feeds the engine with commits and reads, and sends what it owes to the connections.

It holds the node's only engine. Everything here runs on one event loop; the engine is called between awaits and never
across one, so that each of its steps is atomic.
"""

import asyncio
import logging
import random
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Collection, Sequence
from typing import Protocol

from bonfire.changes.source import ChangeSource
from bonfire.engine.commit import Commit, IndexProgress
from bonfire.engine.delivery import Outgoing
from bonfire.engine.live import LiveEngine
from bonfire.engine.query import Plan
from bonfire.engine.reads import Answer, Read
from bonfire.engine.session import Session
from bonfire.sync.fanout import Wire, frames_together
from bonfire.sync.reader import Reader
from bonfire_protocol.codec import Format
from bonfire_protocol.faults import Fault, FaultCode

log = logging.getLogger("bonfire.hub")

READS_AT_ONCE = 4
"""Reads under way at once: what waits meanwhile is read together, which is what conflates a burst of commits."""

REMEMBERED_COMMITS = 20_000
"""How many commits' positions are kept for the answers of mutations that are still on their way."""

POSITION_TIMEOUT = 2.0
"""Seconds that a mutation's answer waits for its commit to come by before it says an upper bound instead."""

BOUND_TIMEOUT = 10.0
"""Seconds that an answer waits for the database to say such an upper bound."""

SLOW_CONSUMER_BYTES = 4 * 1024 * 1024
"""How far behind a peer may be before it is cut off, to come back and start from a fresh snapshot."""


HELD_TRANSITIONS = 10_000
"""How many transitions are held for a peer whose reads don't come back, before it is cut off likewise."""

READ_ATTEMPTS = 3
"""How often a query is read when the change stream is cut meanwhile."""

READ_TIMEOUT = 600.0
"""Seconds after which a read is given up and done again: its connection may be a dead one that nobody has told of. More
than a whole batch of the slowest queries takes."""


class Peer(Protocol):
    """A connection, as the hub sees it: the `key` of an engine session."""

    format: Format
    wire: Wire
    kept: list[bytes] | None
    """None; or what is written meanwhile, while nothing may leave before the answer that is on its way."""

    def buffered(self) -> int: ...
    def cut(self) -> None: ...
    def indexed(self, progress: IndexProgress) -> None: ...
    def committed(self, mutation: str) -> None: ...


class Hub:
    """One node's live side. `heartbeat`: seconds between watermarks to clients. `wake_lanes` is called when a commit
    wrote one of `lane_sources`."""

    def __init__(
        self,
        source: ChangeSource,
        reader: Reader,
        *,
        heartbeat: float,
        wake_lanes: Callable[[], None],
        lane_sources: Collection[str],
    ) -> None:
        self.engine = LiveEngine(0)
        self.source = source
        self.reader = reader
        self.commits = 0
        self.gaps = 0
        self.cut_off = 0
        self._heartbeat = heartbeat
        self._wake_lanes = wake_lanes
        self._lane_sources = lane_sources
        self._heard = False
        self._failing: set[str] = set()
        self._reads: set[asyncio.Task[None]] = set()
        self._beats: list[asyncio.Task[None]] = []
        self._positions: OrderedDict[int, int] = OrderedDict()
        self._waiters: dict[int, list[asyncio.Future[int]]] = {}
        self._advance: asyncio.Event = asyncio.Event()
        self._mutations: dict[tuple[str, str], Peer] = {}

    async def start(self) -> None:
        """Go live: from here on every commit is seen. Raises what the change source raises."""
        position = await self.source.start(self)
        self.engine.watermark(position)
        self._beats = [
            asyncio.create_task(self._every(self._heartbeat, "heartbeat", self._beat)),
            asyncio.create_task(self._every(0.25, "look", self._look)),
        ]

    @property
    def failing(self) -> list[str]:
        """What of this node's own work went wrong, and has not gone well since: it is in the log."""
        return sorted(self._failing)

    async def stop(self) -> None:
        for task in [*self._beats, *self._reads]:
            task.cancel()
        await asyncio.gather(*self._beats, *self._reads, return_exceptions=True)
        await self.source.stop()

    # ---- what the change source says (bonfire.changes.source.Sink) ------------------------------------------

    def commit(self, commit: Commit) -> None:
        self.commits += 1
        self._positions[commit.xid] = commit.position
        if len(self._positions) > REMEMBERED_COMMITS:
            self._positions.popitem(last=False)
        for message in commit.messages:
            if message.mutation is not None and message.tenant is not None:
                # Its answer must go out before its transition: see `Connection.committed`.
                author = self._mutations.get((message.tenant, message.mutation))
                if author is not None:
                    author.committed(message.mutation)
        self.engine.commit(commit)
        self.pump()
        for waiter in self._waiters.pop(commit.xid, ()):
            if not waiter.done():
                waiter.set_result(commit.position)
        for message in commit.messages:
            if message.index is not None and message.tenant is not None:
                peer = self._mutations.get((message.tenant, message.index.mutation))
                if peer is not None:
                    peer.indexed(message.index)
        self._advance.set()
        if any(message.source in self._lane_sources for message in commit.messages):
            self._wake_lanes()

    def watermark(self, position: int) -> None:
        self._heard = True
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
        self.engine.gap()
        self.pump()

    def up(self, position: int) -> None:
        self._heard = True
        log.info("the change stream is live")
        if position < self.engine.position:
            self._start_over(position)
        self.engine.up(position)
        self._advance.set()
        self.pump()

    def _start_over(self, position: int) -> None:
        """The database has gone back in its own order, as it does when one takes its place that lacks its last commits.
        What clients were shown then never was: they are cut off, and start from fresh snapshots."""
        log.error("the database is behind what was shown already: all clients start over")
        sessions = self.engine.sessions()
        self.engine = LiveEngine(position)
        self._positions.clear()
        for session in sessions:
            peer: Peer = session.key  # type: ignore[assignment]  # as in `pump`
            peer.cut()

    # ---- engine -> sockets and database ---------------------------------------------------------------------

    def pump(self) -> None:
        """Do what the engine owes: send frames, start reads, ask the stream to hurry. Call after each engine call."""
        for outgoing in self.engine.take_outgoing():
            by_format: dict[Format, list[Peer]] = {Format.json: [], Format.msgpack: []}
            json = by_format[Format.json]
            for session in outgoing.audience.sessions:
                peer: Peer = session.key  # type: ignore[assignment]  # every session's key is a Peer: see `join`
                if peer.format is Format.json:
                    json.append(peer)
                else:
                    by_format[peer.format].append(peer)
            for format, peers in by_format.items():
                if peers:
                    send_to(peers, _framed(outgoing, format))
        while len(self._reads) < READS_AT_ONCE:
            read = self.engine.next_read()
            if read is None:
                break
            task = asyncio.create_task(self._read(read))
            self._reads.add(task)
            task.add_done_callback(self._read_done)
        awaited = self.engine.awaited
        if awaited is not None and awaited > self.engine.position:
            self.source.nudge(awaited)

    async def _read(self, read: Read) -> None:
        engine = self.engine
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
            engine.landed(read.ticket, snapshot.visibility, snapshot.bound, snapshot.answers)

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

    async def _beat(self) -> None:
        # A watermark is the stream's word that it keeps up with the database; commits alone may be old ones.
        # Without one the clients get none either, and go stale.
        if self._heard:
            self._heard = False
            self.engine.heartbeat()
            self.pump()
        self._cut_slow_consumers()

    def _cut_slow_consumers(self) -> None:
        for session in self.engine.sessions():
            peer: Peer = session.key  # type: ignore[assignment]  # as in `pump`
            if peer.buffered() > SLOW_CONSUMER_BYTES or len(session.held) > HELD_TRANSITIONS:
                self.cut_off += 1
                peer.cut()

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

    def join(self, peer: Peer, tenant: str, access: str, *, since: int | None = None) -> Session:
        return self.engine.join(peer, tenant, access, since=since)

    def expect_index(self, tenant: str, mutation: str, peer: Peer) -> None:
        """`peer` wants to be told how the indexes of this mutation get on."""
        self._mutations[(tenant, mutation)] = peer

    def forget_index(self, tenant: str, mutation: str, peer: Peer) -> None:
        """`peer` wants it no more. Another one may have sent the same mutation again meanwhile."""
        if self._mutations.get((tenant, mutation)) is peer:
            del self._mutations[(tenant, mutation)]

    async def read_once(self, tenant: str, plan: Plan) -> tuple[Answer, int]:
        """A query's answer, and a position that it surely reflects. Fault `unavailable` when none is to be had."""
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
        known = self._positions.get(xid)
        if known is not None:
            return known
        if new and not self.engine.is_down:
            waiter: asyncio.Future[int] = asyncio.get_running_loop().create_future()
            self._waiters.setdefault(xid, []).append(waiter)
            try:
                return await asyncio.wait_for(waiter, POSITION_TIMEOUT)
            except TimeoutError:
                pass
            finally:
                waiters = self._waiters.get(xid)
                if waiters is not None and waiter in waiters:
                    waiters.remove(waiter)
                    if not waiters:
                        del self._waiters[xid]
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
        if position <= self.engine.position or await self.reach(position, timeout) or self.engine.is_down:
            return True
        try:
            return await self.reader.bound() < position
        except Fault:
            return True

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


def send_to(peers: Sequence[Peer], framed: bytes) -> None:
    """The same bytes to all of these, who read one format. None at all: it can't spell them, and they are cut off."""
    if not framed:
        for peer in peers:
            peer.cut()
        return
    wires: list[Wire] = []
    for peer in peers:
        if peer.kept is None:
            wires.append(peer.wire)
        else:
            peer.kept.append(framed)
    if wires:
        wires[0].flusher.queue(framed, wires)


def _framed(outgoing: Outgoing, format: Format) -> bytes:
    """The frames' bytes; none when they can't be spelled in this format (an integer that MessagePack has no room for):
    that must cost nobody but those who asked for it."""
    try:
        return frames_together(outgoing.frames, format)
    except Exception as error:
        log.error("frames can't be spelled as %s: %s", format.value, type(error).__name__)
        return b""
