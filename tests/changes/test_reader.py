"""What a stream makes the sink hear, with a server that says what the test wants."""

import asyncio

import pytest

from bonfire.changes.ends import Ends
from bonfire.changes.lineage import Lineage
from bonfire.changes.looks import Look
from bonfire.changes.reader import Reader
from bonfire.changes.side import Progress, Side
from bonfire.changes.source import Lag, SourceUnavailable
from bonfire.changes.timing import Timing
from bonfire.changes.walsender import Receiver, Walsender
from bonfire.engine.visibility import Cut
from support.changes import Recorder


class Server(Walsender):
    """The stream's end. What it was told is in `status`: position, and whether an answer was wanted."""

    def __init__(self) -> None:
        self.slot = "slot"
        self.lineage = Lineage("1", 1, 1)
        self.standby = False
        self.position = 100
        self.status: list[tuple[int, bool]] = []

    def attach(self, receiver: Receiver) -> None:
        self.receiver = receiver

    def send_status(self, position: int, *, reply_requested: bool = False) -> None:
        self.status.append((position, reply_requested))

    async def close(self) -> None: ...

    def says(self, frame: bytes) -> None:
        self.receiver.frame(memoryview(frame))
        self.receiver.drained()


class Database(Side):
    """The other end: it says how far it is, and counts the marks."""

    def __init__(self) -> None:
        self.flushed = 100
        self.marks = 0
        self.silent = False
        self.timeline = 1
        self.standby = False

    async def is_standby(self) -> bool:
        return self.standby

    async def progress(self) -> Progress:
        if self.silent:
            raise SourceUnavailable("silent", retry=True)
        return Progress(self.flushed, 1, self.timeline)

    async def mark(self) -> int:
        self.marks += 1
        return self.flushed + self.marks

    async def tend_outbox(self, *_: object) -> None: ...

    async def end_walsender(self, slot: str) -> None: ...


class Clock:
    """Time that stands still until it is turned; whoever sleeps wakes when it has passed."""

    def __init__(self) -> None:
        self.now = 0.0
        self._sleepers: list[tuple[float, asyncio.Event]] = []

    async def sleep(self, seconds: float) -> None:
        woken = asyncio.Event()
        self._sleepers.append((self.now + seconds, woken))
        await woken.wait()

    async def turn(self, seconds: float) -> None:
        await settle()
        self.now += seconds
        for until, woken in self._sleepers:
            if until <= self.now:
                woken.set()
        self._sleepers = [sleeper for sleeper in self._sleepers if not sleeper[1].is_set()]
        await settle()


async def settle() -> None:
    """Let every task run until it waits."""
    for _ in range(20):
        await asyncio.sleep(0)


def keepalive(position: int, *, reply_requested: bool = False) -> bytes:
    return b"k" + position.to_bytes(8) + bytes(8) + bytes([reply_requested])


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def database() -> Database:
    return Database()


@pytest.fixture
async def server() -> Server:
    return Server()


@pytest.fixture
async def recorder() -> Recorder:
    return Recorder()


@pytest.fixture
async def reader(server: Server, database: Database, recorder: Recorder, clock: Clock) -> Reader:
    timing = Timing(
        now=lambda: clock.now, monotonic=lambda: clock.now, sleep=clock.sleep, heartbeat=1.0, patience=0.01, silence=5.0
    )
    ends = Ends("", None, 1.0)
    ends.read = ends.primary = database
    reader = Reader(server, ends, 1, recorder, timing)
    reader.attach(is_down=False)
    return reader


async def test_a_stream_that_keeps_up_is_confirmed_by_each_heartbeat(
    reader: Reader, server: Server, recorder: Recorder, clock: Clock
) -> None:
    server.says(keepalive(100))
    await clock.turn(1.0)
    await clock.turn(1.0)
    assert recorder.events == [("watermark", 100), ("watermark", 100)]
    await reader.close()


async def test_a_stream_that_lags_is_not_confirmed_though_it_moves(
    reader: Reader, server: Server, database: Database, recorder: Recorder, clock: Clock
) -> None:
    database.flushed = 500
    await clock.turn(1.0)
    server.says(keepalive(200))
    server.says(keepalive(300))
    await clock.turn(1.0)
    server.says(keepalive(499))
    assert recorder.events == []
    server.says(keepalive(500))
    assert recorder.events == [("watermark", 500)]
    await reader.close()


async def test_how_far_a_stream_is_behind_and_for_how_long(
    reader: Reader, server: Server, database: Database, clock: Clock
) -> None:
    server.says(keepalive(100))
    await clock.turn(1.0)
    assert reader.lag == Lag(0, 0.0)
    database.flushed = 500
    await clock.turn(1.0)
    server.says(keepalive(200))
    await clock.turn(1.0)
    assert reader.lag == Lag(300, 2.0)
    server.says(keepalive(500))
    assert reader.lag == Lag(0, 0.0)
    await reader.close()


async def test_a_database_that_does_not_say_how_far_it_is_is_not_confirmed(
    reader: Reader, server: Server, database: Database, recorder: Recorder, clock: Clock
) -> None:
    database.silent = True
    for _ in range(3):
        await clock.turn(1.0)
        server.says(keepalive(100))
    assert recorder.events == []
    await reader.close()


async def test_an_answer_is_given_at_once_where_it_is_wanted(reader: Reader, server: Server) -> None:
    server.says(keepalive(100))
    assert server.status == []
    server.says(keepalive(100, reply_requested=True))
    assert server.status == [(100, False)]
    await reader.close()


async def test_silence_ends_it(reader: Reader, server: Server, clock: Clock) -> None:
    for _ in range(5):
        await clock.turn(1.0)
    assert not reader.finished.done()
    # It has asked each time, so that a server that is there would have been heard.
    assert [wanted for _, wanted in server.status] == [True] * 5
    await clock.turn(1.0)
    assert await reader.finished == "the database has said nothing for 6 s"
    await reader.close()


async def test_a_nudge_asks_twice_then_writes_once(
    reader: Reader, server: Server, database: Database, recorder: Recorder, clock: Clock
) -> None:
    database.flushed = 200
    reader.nudge(200)
    reader.nudge(200)
    reader.nudge(150)
    assert server.status == [(100, True)]
    server.says(keepalive(120))
    assert server.status[1:] == [(120, True)]
    server.says(keepalive(120))
    assert len(server.status) == 2
    assert database.marks == 0
    await clock.turn(0.01)
    assert database.marks == 1
    # The mark is on its way; another would not be faster.
    for _ in range(6):
        await clock.turn(0.3)
    assert database.marks == 1
    server.says(keepalive(210))
    assert recorder.position == 210
    await clock.turn(1.0)
    assert database.marks == 1
    await reader.close()


async def test_a_stream_that_makes_no_sense_is_left_to_whoever_reads_the_socket(reader: Reader, server: Server) -> None:
    with pytest.raises(Exception, match="unknown kind"):
        server.says(b"x")
    await reader.close()


async def test_another_timeline_than_the_primarys_ends_it(
    reader: Reader, database: Database, recorder: Recorder, clock: Clock
) -> None:
    """The same server still answers, and another one has become the primary: what comes is not what is written."""
    database.timeline = 2
    await clock.turn(1.0)
    assert await reader.finished == "another server has become the primary"
    assert recorder.events == []
    await reader.close()


async def test_a_standby_that_is_none_any_more_ends_it(
    reader: Reader, server: Server, database: Database, recorder: Recorder, clock: Clock
) -> None:
    server.standby = database.standby = True
    await clock.turn(1.0)
    assert recorder.events == [("watermark", 100)]
    database.standby = False
    await clock.turn(1.0)
    assert await reader.finished == "the replica was promoted"
    assert recorder.events == [("watermark", 100)]
    await reader.close()


async def test_a_look_is_answered_when_the_stream_is_there_and_not_later(reader: Reader, server: Server) -> None:
    behind = asyncio.create_task(reader.cut(Look(100, 150, True, 1, 1)))
    await settle()
    assert not behind.done()
    # It has asked, so that a quiet stream says where it is.
    assert server.status == [(100, True)]
    server.says(keepalive(150))
    assert await behind == Cut(150)
    assert await reader.cut(Look(100, 120, True, 1, 1)) == Cut(120)
    lost = asyncio.create_task(reader.cut(Look(100, 900, True, 1, 1)))
    await settle()
    reader.ended("cut")
    with pytest.raises(SourceUnavailable, match="the change stream is cut"):
        await lost
    await reader.close()


@pytest.mark.parametrize("is_down", [False, True])
async def test_a_standby_that_begins_far_behind_is_live_when_it_has_caught_up(
    server: Server, database: Database, recorder: Recorder, clock: Clock, is_down: bool
) -> None:
    timing = Timing(now=lambda: clock.now, monotonic=lambda: clock.now, sleep=clock.sleep, heartbeat=1.0)
    ends = Ends("", None, 1.0)
    ends.read = ends.primary = database
    server.standby = database.standby = True
    database.flushed = 500
    reader = Reader(server, ends, 1, recorder, timing, behind=True)
    reader.attach(is_down=is_down)
    await settle()
    assert [kind for kind, _ in recorder.events] == ([] if is_down else ["down"])
    recorder.events.clear()
    recorder.is_up = False
    await clock.turn(1.0)
    # The primary goes on; how far it was a moment ago is good enough.
    database.flushed = 600
    await clock.turn(1.0)
    server.says(keepalive(499))
    assert recorder.events == []
    server.says(keepalive(510))
    assert recorder.events == [("gap", "the replica was behind the primary"), ("up", 510)]
    await reader.close()
