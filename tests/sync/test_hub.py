"""The hub between a scripted change source and a scripted database: what it makes of each."""

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
from msgspec import Raw

from bonfire.changes.source import Lag, Sink, SourceKind
from bonfire.engine.commit import Commit, IndexProgress, Message, RowChange, ViewChange
from bonfire.engine.query import AppPlan, KeyedPlan, Plan, QueryIdentity
from bonfire.engine.reads import Read, Wanted
from bonfire.engine.visibility import Visibility
from bonfire.sync.fanout import Spelling
from bonfire.sync.hub import Hub
from bonfire.sync.reader import Snapshot
from bonfire_protocol.codec import Format
from bonfire_protocol.faults import Fault, FaultCode
from support.admitting import ScriptedFacts, admitting
from support.wires import Socket, wire_to

EVERYTHING = Visibility(1 << 40, 1 << 40, frozenset())


@dataclass
class ScriptedSource:
    """A change source whose script is the test."""

    nudged: list[int] = field(default_factory=list)
    sink: Sink | None = None
    stream: str = "wal-1-1-1"

    @property
    def kind(self) -> SourceKind:
        return "wal"

    @property
    def lag(self) -> Lag | None:
        return Lag(0, 0.0)

    async def start(self, sink: Sink) -> int:
        self.sink = sink
        return 100

    def nudge(self, position: int) -> None:
        self.nudged.append(position)

    async def stop(self) -> None:
        self.sink = None


@dataclass
class ScriptedReader:
    """Answers each read with what `answer` gives."""

    answer: Callable[[Read], Snapshot]
    bounds: list[int | Fault] = field(default_factory=list)
    trouble: Exception | None = None
    looks: int = 0
    may_lag: bool = False

    async def read(self, read: Read) -> Snapshot:
        return self.answer(read)

    async def bound(self) -> int:
        given = self.bounds.pop(0)
        if isinstance(given, Fault):
            raise given
        return given

    async def end(self) -> int:
        return await self.bound()

    async def read_once(self, tenant: str, plan: Plan) -> Snapshot:
        return self.answer(Read(0, tenant, [Wanted(0, QueryIdentity(tenant, "q", b"", ""), plan, 0)]))

    async def visibility(self) -> Visibility:
        self.looks += 1
        if self.trouble is not None:
            raise self.trouble
        return EVERYTHING


@dataclass(eq=False)
class Listener:
    """A peer that keeps what it is sent."""

    format: Format = Format.json
    progress: list[IndexProgress] = field(default_factory=list)
    own: list[tuple[str, int, bytes]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.socket = Socket()
        self.wire = wire_to(self.socket, Spelling(self.format, compressed=False))

    @property
    def received(self) -> bytes:
        return b"".join(self.socket.written)

    @property
    def was_cut(self) -> bool:
        return self.socket.aborted

    def cut(self) -> None:
        self.wire.abort()

    def indexed(self, progress: IndexProgress) -> None:
        self.progress.append(progress)

    def committed(self, mutation: str, position: int) -> None:
        self.own.append((mutation, position, self.received))


PLAN = AppPlan((("Patient", None),), "one", identified=False)


def one_row(bound: int) -> Callable[[Read], Snapshot]:
    return lambda read: Snapshot(EVERYTHING, bound, [[Raw(b'{"n":1}')] for _ in read.wanted])


@pytest.fixture
async def made() -> AsyncIterator[tuple[Hub, ScriptedSource, ScriptedReader]]:
    source, reader = ScriptedSource(), ScriptedReader(one_row(100))
    any_reader: Any = reader
    hub = Hub(
        source,
        any_reader,
        heartbeat=0.02,
        check_every=0,
        wake_lanes=lambda: None,
        lane_sources=(),
        admission=admitting(ScriptedFacts()),
    )
    await hub.start()
    yield hub, source, reader
    await hub.stop()


async def settled(ready: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not ready():
            await asyncio.sleep(0.001)


def subscribe(hub: Hub, peer: Listener, name: str = "s") -> None:
    session = hub.join(peer, "t")
    hub.engine.subscribe(session, name, QueryIdentity("t", "q", b"{}", "all"), PLAN)
    hub.pump()


async def test_a_read_ahead_of_the_stream_is_shown_when_the_stream_is_there(
    made: tuple[Hub, ScriptedSource, ScriptedReader],
) -> None:
    hub, source, reader = made
    reader.answer = one_row(250)
    peer = Listener()
    subscribe(hub, peer)
    await settled(lambda: source.nudged == [250] or 250 in source.nudged)
    assert b"subscribed" not in peer.received
    hub.watermark(250)
    assert b"subscribed" in peer.received


async def test_a_read_that_fails_is_done_again(made: tuple[Hub, ScriptedSource, ScriptedReader]) -> None:
    hub, _, reader = made
    calls: list[int] = []

    def answer(read: Read) -> Snapshot:
        calls.append(read.ticket)
        if len(calls) == 1:
            raise Fault(FaultCode.unavailable, "away")
        return one_row(100)(read)

    reader.answer = answer
    peer = Listener()
    subscribe(hub, peer)
    await settled(lambda: b"subscribed" in peer.received)
    assert len(calls) == 2


async def test_without_the_streams_word_there_is_no_watermark(
    made: tuple[Hub, ScriptedSource, ScriptedReader],
) -> None:
    hub, _, _ = made
    await settled(lambda: hub.watermark_age > 0.04)
    peer = Listener()
    hub.join(peer, "t")
    await asyncio.sleep(0.1)
    assert b"watermark" not in peer.received
    hub.watermark(101)
    await settled(lambda: b"watermark" in peer.received)


async def test_commits_alone_are_no_proof_of_freshness(made: tuple[Hub, ScriptedSource, ScriptedReader]) -> None:
    hub, _, _ = made
    # The start was proof, for two heartbeats.
    await settled(lambda: hub.watermark_age > 0.04)
    peer = Listener()
    hub.join(peer, "t")
    hub.commit(Commit(200, 7, [Message("t", "Task", [])]))
    await asyncio.sleep(0.1)
    assert b"watermark" not in peer.received


async def test_a_mutations_position_is_its_commits(made: tuple[Hub, ScriptedSource, ScriptedReader]) -> None:
    hub, _, _ = made
    asked = asyncio.create_task(hub.position_of(42, new=True))
    await asyncio.sleep(0)
    hub.commit(Commit(300, 41, []))
    hub.commit(Commit(310, 42, []))
    assert await asked == 310
    assert await hub.position_of(41, new=True) == 300


async def test_while_the_stream_is_cut_an_upper_bound_is_told_over_an_outage(
    made: tuple[Hub, ScriptedSource, ScriptedReader],
) -> None:
    hub, _, reader = made
    reader.bounds = [Fault(FaultCode.unavailable, "away"), 999]
    hub.down("cut")
    assert await hub.position_of(42, new=True) == 999


async def test_a_database_that_went_back_makes_everybody_start_over(
    made: tuple[Hub, ScriptedSource, ScriptedReader],
) -> None:
    hub, _, _ = made
    peer = Listener()
    subscribe(hub, peer)
    hub.commit(Commit(500, 9, []))
    hub.down("failover")
    hub.gap("another database")
    hub.up(400)
    assert peer.was_cut
    assert hub.engine.position == 400
    assert not hub.engine.is_down


async def test_who_does_not_read_is_given_the_newest_when_it_reads_on(
    made: tuple[Hub, ScriptedSource, ScriptedReader],
) -> None:
    hub, _, reader = made
    slow, quick = Listener(), Listener()
    for peer in (slow, quick):
        subscribe(hub, peer)
        await settled(lambda peer=peer: b"subscribed" in peer.received)  # type: ignore[misc]  # bound at once
    stalled = hub.engine.sessions()[0]
    assert stalled.key is slow
    hub.engine.park(stalled)
    before = slow.received
    for number in range(1, 4):
        reader.answer = lambda read, n=number: Snapshot(EVERYTHING, 100, [[Raw(b'{"n":%d}' % (n + 1))]])  # type: ignore[misc]
        hub.commit(Commit(200 + number, 7 + number, [Message("t", "Patient", [])]))
        await settled(lambda n=number: b'{"n":%d}' % (n + 1) in quick.received)  # type: ignore[misc]
    assert slow.received == before
    hub.engine.unpark(stalled)
    hub.pump()
    news = slow.received.removeprefix(before)
    assert news.count(b'"reason":"conflated"') == 1
    assert b'{"n":4}' in news
    assert b'{"n":3}' not in news


async def test_progress_of_an_index_goes_to_who_wrote_and_to_no_other_tenant(
    made: tuple[Hub, ScriptedSource, ScriptedReader],
) -> None:
    hub, _, _ = made
    writer, other = Listener(), Listener()
    hub.expect_index("t", "m", writer)
    hub.expect_index("u", "m", other)
    progress = IndexProgress("m", "agentContext", "fresh")
    hub.commit(Commit(200, 7, [Message("t", index=progress)]))
    assert (writer.progress, other.progress) == ([progress], [])


async def test_a_client_that_has_seen_more_waits_until_this_node_has_too(
    made: tuple[Hub, ScriptedSource, ScriptedReader],
) -> None:
    hub, source, _ = made
    waiting = asyncio.create_task(hub.reach(150, timeout=5))
    await asyncio.sleep(0.01)
    assert not waiting.done()
    assert source.nudged[-1] == 150
    hub.watermark(150)
    assert await waiting is True
    assert await hub.reach(10_000, timeout=0.01) is False


async def test_an_author_hears_of_the_commit_before_its_transition(
    made: tuple[Hub, ScriptedSource, ScriptedReader],
) -> None:
    hub, _, _ = made
    author = Listener()
    hub.expect_index("t", "m", author)
    subscribe(hub, author)
    await settled(lambda: b"subscribed" in author.received)
    before = author.received
    hub.commit(Commit(200, 7, [Message("t", "Patient", []), Message("t", mutation="m")]))
    assert author.own == [("m", 200, before)]


async def test_a_commit_of_long_ago_is_not_waited_for(made: tuple[Hub, ScriptedSource, ScriptedReader]) -> None:
    hub, _, reader = made
    reader.bounds = [777]
    async with asyncio.timeout(0.5):
        assert await hub.position_of(1, new=False) == 777


async def test_work_that_fails_is_told_and_goes_on(made: tuple[Hub, ScriptedSource, ScriptedReader]) -> None:
    hub, _, reader = made
    reader.trouble = RuntimeError("what nobody thought of")
    hub.commit(Commit(200, 7, [Message("t", "Task", [])]))
    await settled(lambda: hub.failing == ["look"])
    reader.trouble = None
    await settled(lambda: hub.failing == [])
    assert hub.engine.counts["recent_commits"] == 0


async def test_a_heartbeat_that_fails_is_told_and_goes_on(
    made: tuple[Hub, ScriptedSource, ScriptedReader], monkeypatch: pytest.MonkeyPatch
) -> None:
    hub, _, _ = made
    peer = Listener()
    hub.join(peer, "t")

    def fail(*, vouched: bool) -> None:
        raise RuntimeError("what nobody thought of")

    with monkeypatch.context() as broken:
        broken.setattr(hub.engine, "beat", fail)
        hub.watermark(150)
        await settled(lambda: hub.failing == ["heartbeat"])
    hub.watermark(160)
    await settled(lambda: b"watermark" in peer.received)
    assert hub.failing == []


async def test_an_outage_is_no_failure_of_the_nodes_own(made: tuple[Hub, ScriptedSource, ScriptedReader]) -> None:
    hub, _, reader = made
    reader.trouble = Fault(FaultCode.unavailable, "away")
    hub.commit(Commit(200, 7, [Message("t", "Task", [])]))
    await settled(lambda: reader.looks > 0)
    assert hub.failing == []


async def test_an_engine_that_fails_at_a_read_is_told(made: tuple[Hub, ScriptedSource, ScriptedReader]) -> None:
    hub, _, reader = made
    reader.answer = lambda read: Snapshot(EVERYTHING, 100, [])
    subscribe(hub, Listener())
    await settled(lambda: hub.failing == ["read"])


async def test_what_one_format_can_not_spell_costs_the_others_nothing(
    made: tuple[Hub, ScriptedSource, ScriptedReader],
) -> None:
    hub, _, reader = made
    reader.answer = lambda read: Snapshot(EVERYTHING, 100, [[Raw(b'{"n":123456789012345678901234567890}')]])
    packed, plain = Listener(format=Format.msgpack), Listener()
    for peer in (packed, plain):
        subscribe(hub, peer)
    await settled(lambda: b"subscribed" in plain.received)
    assert (packed.was_cut, plain.was_cut, packed.received) == (True, False, b"")


async def test_who_is_held_for_too_long_is_owed_the_newest_only(
    made: tuple[Hub, ScriptedSource, ScriptedReader], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bonfire.sync.hub.HELD_TRANSITIONS", 5)
    hub, _, reader = made
    held = Listener()
    subscribe(hub, held)
    await settled(lambda: b"subscribed" in held.received)

    def away(read: Read) -> Snapshot:
        raise Fault(FaultCode.busy, "full")

    reader.answer = away
    (session,) = hub.engine.sessions()
    hub.commit(Commit(200, 7, [Message("t", "Patient", [])]))
    for number in range(10):
        session.hold(300 + number, [])
    assert len(session.held) > 5
    await settled(lambda: len(session.held) <= 1)


async def test_a_query_over_a_gap_is_read_again(made: tuple[Hub, ScriptedSource, ScriptedReader]) -> None:
    hub, _, reader = made
    calls: list[int] = []

    def answer(read: Read) -> Snapshot:
        calls.append(hub.engine.position)
        if len(calls) == 1:
            hub.down("cut")
            hub.gap("cut")
            hub.up(300)
        return one_row(300)(read)

    reader.answer = answer
    _, position = await hub.read_once("t", PLAN, after=0)
    assert (calls, position) == ([100, 300], 300)


async def test_who_sends_a_mutation_again_is_not_forgotten_with_the_first(
    made: tuple[Hub, ScriptedSource, ScriptedReader],
) -> None:
    hub, _, _ = made
    cut, back = Listener(), Listener()
    hub.expect_index("t", "m", cut)
    hub.expect_index("t", "m", back)
    hub.forget_index("t", "m", cut)
    progress = IndexProgress("m", "agentContext", "fresh")
    hub.commit(Commit(200, 7, [Message("t", index=progress)]))
    assert back.progress == [progress]
    hub.forget_index("t", "m", back)
    hub.commit(Commit(201, 8, [Message("t", index=progress)]))
    assert back.progress == [progress]


async def test_a_client_is_not_served_by_a_node_that_is_behind(
    made: tuple[Hub, ScriptedSource, ScriptedReader],
) -> None:
    hub, source, reader = made
    reader.bounds = [10_000, 150, Fault(FaultCode.unavailable, "away")]
    assert await hub.may_serve(200, timeout=0.01) is False, "the database has it, this node has not"
    nudged = list(source.nudged)
    assert nudged
    assert await hub.may_serve(200, timeout=0.01) is True, "the database has gone back"
    assert source.nudged == nudged, "the stream is not sent after what is not there"
    assert await hub.may_serve(200, timeout=0.01) is True, "nothing can be shown meanwhile"
    assert await hub.may_serve(100, timeout=5) is True


async def test_a_read_that_can_never_be_done_ends_its_queries(made: tuple[Hub, ScriptedSource, ScriptedReader]) -> None:
    hub, _, reader = made
    calls: list[int] = []

    def answer(read: Read) -> Snapshot:
        calls.append(read.ticket)
        raise Fault(FaultCode.bad_arguments, "This is no tenant's name.")

    reader.answer = answer
    peer = Listener()
    subscribe(hub, peer)
    await settled(lambda: b"unsubscribed" in peer.received)
    assert b"bad_arguments" in peer.received
    assert (len(calls), hub.engine.counts["live_queries"]) == (1, 0)


async def test_a_commit_is_shown_at_once(made: tuple[Hub, ScriptedSource, ScriptedReader]) -> None:
    hub, _, reader = made
    reader.answer = lambda read: Snapshot(EVERYTHING, 100, [[] for _ in read.wanted])
    peer = Listener()
    session = hub.join(peer, "t")
    keyed = KeyedPlan("view", "a", 3, (("n", False),))
    hub.engine.subscribe(session, "k", QueryIdentity("t", "k", b"{}", "all"), keyed)
    hub.pump()
    await settled(lambda: b"subscribed" in peer.received)
    rows = [RowChange("a", "r", None, Raw(b'{"id":"r","n":1}'))]
    hub.commit(Commit(200, 7, [Message("t", "V", [], [ViewChange("view", rows)])]))
    assert b'"patch"' in peer.received


async def test_a_node_that_has_just_started_knows_of_nothing_before(
    made: tuple[Hub, ScriptedSource, ScriptedReader],
) -> None:
    hub, _, _ = made
    peer = Listener()
    session = hub.join(peer, "t", since=99)
    hub.engine.subscribe(session, "s", QueryIdentity("t", "q", b"{}", "all"), PLAN, resume=True)
    hub.pump()
    await settled(lambda: b"subscribed" in peer.received)
    assert b"resumed" not in peer.received


async def test_who_comes_while_the_stream_is_silent_is_told_so(
    made: tuple[Hub, ScriptedSource, ScriptedReader],
) -> None:
    hub, _, _ = made
    early, late = Listener(), Listener()
    hub.join(early, "t")
    hub.pump()
    assert b"stale" not in early.received
    await asyncio.sleep(0.1)
    hub.join(late, "t")
    hub.pump()
    assert b"stale" in late.received
    hub.watermark(150)
    await settled(lambda: b"watermark" in late.received)


async def test_a_word_of_long_ago_vouches_for_nothing(made: tuple[Hub, ScriptedSource, ScriptedReader]) -> None:
    hub, _, _ = made
    await settled(lambda: hub.watermark_age > 0.04)
    peer = Listener()
    hub.join(peer, "t")
    hub.watermark(150, age=6.0)
    assert hub.engine.position == 150, "commits up to there have come, whenever the database was asked"
    await asyncio.sleep(0.06)
    assert b"watermark" not in peer.received
    hub.watermark(150, age=0.001)
    await settled(lambda: b"watermark" in peer.received)


async def test_a_replicas_node_serves_nobody_who_has_seen_more(
    made: tuple[Hub, ScriptedSource, ScriptedReader],
) -> None:
    hub, _, reader = made
    reader.may_lag = True
    reader.bounds = [150, 300, Fault(FaultCode.unavailable, "away")]
    assert await hub.may_serve(200, timeout=0.01) is False, "it is behind, however it looks"
    assert await hub.may_serve(200, timeout=0.01) is False
    hub.down("the standby is away")
    assert await hub.may_serve(200, timeout=0.01) is False


async def test_after_a_failover_everybody_starts_over(made: tuple[Hub, ScriptedSource, ScriptedReader]) -> None:
    hub, source, _ = made
    before, after = Listener(), Listener()
    subscribe(hub, before)
    hub.down("failover")
    hub.gap("another server")
    source.stream = "wal-1-2-1"
    hub.up(900)
    assert before.was_cut, "its positions are those of the old timeline"
    subscribe(hub, after)
    await settled(lambda: b"subscribed" in after.received)
    hub.down("cut")
    hub.gap("cut")
    hub.up(950)
    assert not after.was_cut


async def test_a_stream_that_goes_on_vouches_for_nothing_yet(made: tuple[Hub, ScriptedSource, ScriptedReader]) -> None:
    hub, _, _ = made
    peer = Listener()
    hub.join(peer, "t")
    hub.down("cut")
    await settled(lambda: hub.watermark_age > 0.04)
    hub.up(200)
    await asyncio.sleep(0.06)
    assert b"watermark" not in peer.received, "what was missed may be still to come"
    hub.watermark(250)
    await settled(lambda: b"watermark" in peer.received)
