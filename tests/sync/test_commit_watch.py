"""What is measured of a commit: only what somebody was sent, and until when."""

from collections.abc import Sequence

import pytest

from bonfire.engine.commit import Commit, Message
from bonfire.engine.query import AppPlan, QueryIdentity
from bonfire.engine.reads import Read, Wanted
from bonfire.sync import commit_watch
from bonfire.sync.commit_watch import CommitWatch
from bonfire.sync.fanout import Flusher, Way
from bonfire.telemetry.metrics import Histogram
from support.wires import Socket, wire_to

PLAN = AppPlan((("Patient", None),), "one", identified=False)


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def flusher(clock: Clock) -> Flusher:
    return Flusher(clock)


@pytest.fixture
def watch(flusher: Flusher, clock: Clock) -> CommitWatch:
    return CommitWatch(flusher, None, clock)


def commit(position: int, at: float) -> Commit:
    return Commit(position, position, [Message("t", "Patient", [])], at)


def read(*since: int | None) -> Read:
    wanted = [
        Wanted(number, QueryIdentity("t", "q", b"{}", "all"), PLAN, 0, position)
        for number, position in enumerate(since)
    ]
    return Read(1, "t", wanted)


def measured(histogram: Histogram) -> tuple[int, float]:
    return histogram.count, round(histogram.total, 6)


async def test_a_commit_is_timed_until_all_of_its_bytes_are_written(
    watch: CommitWatch, flusher: Flusher, clock: Clock
) -> None:
    sockets = [Socket(), Socket()]
    way = Way([wire_to(socket, flusher=flusher) for socket in sockets])
    for position, at in ((1, 999.9), (2, 999.95)):
        watch.begin(commit(position, at))
        flusher.queue(b"patch", way)
        watch.end(commit(position, at))
    assert flusher.commit_to_send.count == 0
    clock.now = 1000.05
    flusher.flush()
    assert [socket.written for socket in sockets] == [[b"patchpatch"], [b"patchpatch"]]
    assert measured(flusher.commit_to_send) == (2, 0.25)
    assert flusher.sent.bytes == 20


async def test_a_commit_that_nobody_is_sent_anything_of_is_not_timed(
    watch: CommitWatch, flusher: Flusher, clock: Clock
) -> None:
    way = Way([wire_to(Socket(), flusher=flusher)])
    flusher.queue(b"something else", way)
    watch.begin(commit(1, 999.0))
    watch.end(commit(1, 999.0))
    flusher.flush()
    assert flusher.commit_to_send.count == 0


async def test_what_was_written_at_once_is_timed_at_once(watch: CommitWatch, flusher: Flusher) -> None:
    way = Way([wire_to(Socket(), flusher=flusher)])
    watch.begin(commit(1, 999.5))
    flusher.queue(b"more than waits for the end of a tick", way)
    flusher.flush()
    watch.end(commit(1, 999.5))
    assert measured(flusher.commit_to_send) == (1, 0.5)


def test_a_query_is_timed_from_the_first_commit_because_of_which_it_is_run_again(
    watch: CommitWatch, clock: Clock
) -> None:
    for position, at in ((1, 998.0), (2, 999.0)):
        watch.begin(commit(position, at))
        watch.end(commit(position, at))
    watch.landed(read(1, None, 2, 77))
    assert measured(watch.commit_to_reread) == (2, 3.0)


def test_not_all_times_are_kept_for_ever(watch: CommitWatch, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(commit_watch, "REMEMBERED", 2)
    positions: Sequence[int] = (1, 2, 3)
    for position in positions:
        watch.begin(commit(position, 999.0))
        watch.end(commit(position, 999.0))
    watch.landed(read(*positions))
    assert watch.commit_to_reread.count == 2
