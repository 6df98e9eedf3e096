"""The wire of logical replication: recorded bytes, and bytes that are cut or made up."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bonfire.changes.pgoutput import (
    Begin,
    Change,
    Commit,
    Frame,
    Keepalive,
    LogicalMessage,
    ProtocolError,
    Skipped,
    WalData,
    decode_change,
    decode_frame,
    encode_status,
)

# Recorded from Postgres 18.4, protocol version 1: one transaction that does all that a transaction can do.
RECORDED: list[tuple[str, Change]] = [
    ("420000000013547f18000303c01c5f68320000034e", Begin(0x13547F18, 1_795_233_374.75077, 846)),
    (
        "52000040657075626c696300726563006400020169640000000017ffffffff00740000000019ffffffff",
        Skipped("R"),
    ),
    ("49000040654e0002740000000131740000000178", Skipped("I")),
    (
        "4d010000000013547ba8626f6e66697265000000000e7b2274656e616e74223a2261227d",
        LogicalMessage(True, b"bonfire", b'{"tenant":"a"}'),
    ),
    ("55000040654e0002740000000131740000000179", Skipped("U")),
    ("44000040654b00027400000001316e", Skipped("D")),
    ("590000406e7075626c6963006d6f6f6400", Skipped("Y")),
    ("54000000010000004071", Skipped("T")),
    ("43000000000013547f180000000013547f90000303c01c5f6832", Commit(0x13547F90)),
]
RECORDED_KEEPALIVE = "6b000000001354b298000303c01c6250f600"
RECORDED_WAL_DATA = "77000000001354b2e0000000001354b2e0000303c01c6263c442000000001354b850000303c01c62623d00000352"

# Those whose length the protocol gives; the rest of a change of rows is not looked at.
WHOLE = [bytes.fromhex(data) for data, change in RECORDED if not isinstance(change, Skipped)]


@pytest.mark.parametrize(("data", "change"), RECORDED)
def test_recorded_changes(data: str, change: Change) -> None:
    assert decode_change(bytes.fromhex(data)) == change


def test_recorded_frames() -> None:
    assert decode_frame(bytes.fromhex(RECORDED_KEEPALIVE)) == Keepalive(0x1354B298, reply_requested=False)
    frame = decode_frame(bytes.fromhex(RECORDED_WAL_DATA))
    assert isinstance(frame, WalData)
    begin = decode_change(frame.change)
    assert isinstance(begin, Begin)
    assert (begin.commit_position, begin.xid) == (0x1354B850, 850)


def test_a_keepalive_that_wants_an_answer() -> None:
    assert decode_frame(bytes.fromhex(RECORDED_KEEPALIVE[:-2] + "01")) == Keepalive(0x1354B298, reply_requested=True)


def test_a_message_outside_of_transactions() -> None:
    data = b"M\x00" + bytes(8) + b"p\0" + b"\0\0\0\x02" + b"hi"
    assert decode_change(data) == LogicalMessage(False, b"p", b"hi")


@given(st.sampled_from(WHOLE), st.data())
def test_a_change_that_is_cut_short_is_an_error(whole: bytes, data: st.DataObject) -> None:
    length = data.draw(st.integers(0, len(whole) - 1))
    with pytest.raises(ProtocolError):
        decode_change(whole[:length])


@given(st.sampled_from(WHOLE), st.binary(min_size=1, max_size=40))
def test_a_change_that_goes_on_after_its_end_is_an_error(whole: bytes, more: bytes) -> None:
    with pytest.raises(ProtocolError):
        decode_change(whole + more)


@given(st.sampled_from([RECORDED_KEEPALIVE, RECORDED_WAL_DATA]), st.data())
def test_a_frame_whose_head_is_cut_short_is_an_error(recorded: str, data: st.DataObject) -> None:
    whole = bytes.fromhex(recorded)
    head = 18 if whole[:1] == b"k" else 25
    with pytest.raises(ProtocolError):
        decode_frame(whole[: data.draw(st.integers(0, head - 1))])


@given(st.binary(max_size=200))
def test_made_up_bytes_are_a_value_or_an_error(data: bytes) -> None:
    frame: Frame | None = None
    try:
        frame = decode_frame(data)
    except ProtocolError:
        pass
    assert frame is None or isinstance(frame, WalData | Keepalive)
    change: Change | None = None
    try:
        change = decode_change(data)
    except ProtocolError:
        pass
    assert change is None or isinstance(change, Begin | Commit | LogicalMessage | Skipped)


@given(st.booleans(), st.binary(max_size=20).filter(lambda prefix: b"\0" not in prefix), st.binary(max_size=500))
def test_a_message_holds_what_was_put_in(transactional: bool, prefix: bytes, content: bytes) -> None:
    data = bytes([0x4D, transactional]) + bytes(8) + prefix + b"\0" + len(content).to_bytes(4) + content
    assert decode_change(data) == LogicalMessage(transactional, prefix, content)


def test_a_streamed_transaction_which_nobody_asked_for_is_an_error() -> None:
    with pytest.raises(ProtocolError, match="unknown kind"):
        decode_change(b"S" + bytes(5))


def test_a_status_update() -> None:
    # 2000-01-01 is where Postgres' time begins; a second after it are 1,000,000 microseconds.
    data = encode_status(0x1354B298, 946_684_801.0, reply_requested=True)
    position = "000000001354b298"
    assert data.hex() == "72" + position * 3 + "00000000000f4240" + "01"
    assert encode_status(1, 946_684_801.0)[-1] == 0
