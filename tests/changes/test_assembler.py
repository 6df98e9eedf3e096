"""Frames to commits and positions, without a database."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bonfire.changes.assembler import Advanced, Assembler, Event, Unreadable
from bonfire.changes.pgoutput import ProtocolError
from bonfire.engine.commit import Commit


def wal(change: bytes) -> bytes:
    return b"w" + bytes(24) + change


def begin(commit_position: int, xid: int = 7, microseconds: int = 0) -> bytes:
    return wal(b"B" + commit_position.to_bytes(8) + microseconds.to_bytes(8) + xid.to_bytes(4))


def message(content: bytes, prefix: bytes = b"bonfire", *, transactional: bool = True) -> bytes:
    return wal(bytes([0x4D, transactional]) + bytes(8) + prefix + b"\0" + len(content).to_bytes(4) + content)


def commit(end_position: int) -> bytes:
    return wal(b"C\0" + bytes(8) + end_position.to_bytes(8) + bytes(8))


def keepalive(position: int, *, reply_requested: bool = False) -> bytes:
    return b"k" + position.to_bytes(8) + bytes(8) + bytes([reply_requested])


def feed(assembler: Assembler, *frames: bytes) -> list[Event]:
    return [event for frame in frames if (event := assembler.feed(frame)) is not None]


def test_a_commit_comes_out_whole_at_its_end() -> None:
    assembler = Assembler(100, 5)
    assert feed(assembler, begin(200, xid=7, microseconds=2_000_000), message(b'{"tenant":"a"}')) == []
    assert assembler.position == 100
    assert assembler.feed(message(b'{"tenant":"b"}')) is None
    (event,) = feed(assembler, commit(230))
    assert isinstance(event, Commit)
    assert (event.position, event.xid, event.at) == (230, 7, 946_684_802.0)
    assert [one.tenant for one in event.messages] == ["a", "b"]
    assert assembler.position == 230


def test_a_transaction_without_a_message_of_ours_only_moves_the_position() -> None:
    assembler = Assembler(100, 5)
    assert feed(assembler, begin(200), message(b"{}", b"bonfire.mark"), wal(b"Iwhatever"), commit(230)) == [Advanced()]
    assert assembler.position == 230


def test_a_keepalive_moves_the_position_and_never_back() -> None:
    assembler = Assembler(100, 5)
    assert feed(assembler, keepalive(150, reply_requested=True)) == [Advanced(True, True)]
    assert assembler.position == 150
    feed(assembler, keepalive(120))
    assert assembler.position == 150


def test_a_keepalive_inside_a_transaction_stays_before_its_end() -> None:
    assembler = Assembler(100, 5)
    feed(assembler, begin(200), message(b"{}"), keepalive(500))
    assert assembler.position == 200
    (event,) = feed(assembler, commit(230))
    assert isinstance(event, Commit)


def test_a_message_that_can_not_be_read_makes_its_commit_unreadable() -> None:
    assembler = Assembler(100, 5)
    events = feed(assembler, begin(200), message(b'{"tenant":"a"}'), message(b"secret"), message(b"{}"), commit(230))
    assert events == [Unreadable(230, 7, "a message that is no JSON")]
    # The next one is not held guilty.
    (event,) = feed(assembler, begin(300), message(b"{}"), commit(330))
    assert isinstance(event, Commit)


def test_a_message_outside_of_transactions_is_not_passed_over() -> None:
    (event,) = feed(Assembler(100, 5), message(b"{}", transactional=False))
    assert isinstance(event, Unreadable)
    assert event.position == 100


@pytest.mark.parametrize(
    "frames",
    [
        [commit(230)],
        [message(b"{}")],
        [begin(200), begin(300)],
        [keepalive(300), begin(200), commit(230)],
        [begin(200), commit(230), begin(200), commit(230)],
    ],
)
def test_a_stream_that_makes_no_sense_is_an_error(frames: list[bytes]) -> None:
    assembler = Assembler(100, 5)
    with pytest.raises(ProtocolError):
        feed(assembler, *frames)


@given(st.integers(3, 2**63), st.integers(-(2**31) + 1, 2**31 - 1))
def test_short_ids_are_completed_from_the_newest_known(newest: int, distance: int) -> None:
    xid = newest + distance
    if xid < 0:
        return
    assembler = Assembler(100, newest)
    (event,) = feed(assembler, begin(200, xid=xid % 2**32), message(b"{}"), commit(230))
    assert isinstance(event, Commit)
    assert event.xid == xid


def test_the_newest_id_moves_on_with_the_stream_and_with_what_is_told() -> None:
    assembler = Assembler(0, 2**32 - 10)
    xids = []
    for n, xid in enumerate([2**32 - 5, 2**32 + 3, 2**32 + 2**31, 2**33 + 5]):
        if xid == 2**33 + 5:
            assembler.note_xid(2**33)
        (event,) = feed(assembler, begin(n * 100 + 50, xid=xid % 2**32), message(b"{}"), commit(n * 100 + 60))
        assert isinstance(event, Commit)
        xids.append(event.xid)
    assert xids == [2**32 - 5, 2**32 + 3, 2**32 + 2**31, 2**33 + 5]


def test_a_large_transaction_comes_out_as_its_keys() -> None:
    assembler = Assembler(100, 5)
    text = b'{"tenant":"t","views":[{"view":"v","rows":[["%s","i",null,"' + b"x" * 100_000 + b'"]]}]}'
    feed(assembler, begin(200), message(b'{"tenant":"t","source":"A","patients":["p"]}'))
    for number in range(100):
        assert assembler.feed(message(text.replace(b"%s", b"k%d" % number))) is None
    (event,) = feed(assembler, commit(230))
    assert isinstance(event, Commit)
    assert event.bulk == {("t", "v", f"k{number}") for number in range(100)}
    assert [(one.source, one.patients, one.views) for one in event.messages] == [("A", ["p"], [])]
    # The next one is carried again.
    (event,) = feed(assembler, begin(300), message(text), commit(330))
    assert isinstance(event, Commit)
    assert not event.bulk
    assert event.messages[0].views
