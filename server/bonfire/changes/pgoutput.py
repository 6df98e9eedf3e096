"""The wire of logical replication, decoded: a pure function from bytes to values, and one from values to bytes.

Two layers. A *frame* is what the server sends in one CopyData: a piece of the WAL or a keepalive. A *change* is what
pgoutput (protocol version 1, with messages) writes into a piece of the WAL. Only what bonfire needs is unpacked;
changes of rows are recognised and left as they are. Anything else is a `ProtocolError`, never a guess.
"""

from struct import Struct as Layout
from struct import error as LayoutError

from msgspec import Struct

Bytes = bytes | memoryview

EPOCH = 946_684_800
"""Postgres counts time from 2000-01-01 in microseconds: this many seconds after 1970-01-01."""


class ProtocolError(Exception):
    """What came is not the replication protocol that was asked for. The message holds no content."""


class WalData(Struct, frozen=True, gc=False):
    """A piece of the WAL: one change, as pgoutput wrote it."""

    change: memoryview


class Keepalive(Struct, frozen=True, gc=False):
    """The server has sent everything up to `position`; `reply_requested`: it wants a status update at once."""

    position: int
    reply_requested: bool


Frame = WalData | Keepalive


class Begin(Struct, frozen=True, gc=False):
    """A transaction's changes follow. `commit_position` is the start of its commit record, `at` its time in seconds
    since 1970, `xid` the low 32 bits of its id."""

    commit_position: int
    at: float
    xid: int


class Commit(Struct, frozen=True, gc=False):
    """The transaction that has begun is whole. `end_position` is the end of its commit record."""

    end_position: int


class LogicalMessage(Struct, frozen=True, gc=False):
    """What `pg_logical_emit_message` wrote: at once, or, if `transactional`, in the transaction that has begun."""

    transactional: bool
    prefix: bytes
    content: bytes


class Skipped(Struct, frozen=True, gc=False):
    """A change that bonfire has no use for: `tag` is its type's letter."""

    tag: str


Change = Begin | Commit | LogicalMessage | Skipped

_WAL_DATA = Layout("!xQQq")
_KEEPALIVE = Layout("!xQqB")
_BEGIN = Layout("!xQqI")
_COMMIT = Layout("!xBQQq")
_MESSAGE = Layout("!xBQ")
_LENGTH = Layout("!I")
_STATUS = Layout("!cQQQqB")

# Origin, relation, type, insert, update, delete, truncate.
_ROWS = frozenset(b"ORYIUDT")


def decode_frame(data: Bytes) -> Frame:
    """The frame in one CopyData. ProtocolError when it is cut short, too long or of an unknown kind."""
    view = memoryview(data)
    try:
        match view[0] if len(view) else None:
            case 0x77:  # w
                _WAL_DATA.unpack_from(view)
                return WalData(view[_WAL_DATA.size :])
            case 0x6B:  # k
                position, _, reply_requested = _KEEPALIVE.unpack(view)
                return Keepalive(position, reply_requested != 0)
            case tag:
                raise ProtocolError(f"a frame of an unknown kind: {_spell(tag)}")
    except LayoutError:
        raise ProtocolError(f"a frame of kind {_spell(view[0])} has a wrong length: {len(view)} bytes") from None


def decode_change(data: Bytes) -> Change:
    """The change in a piece of the WAL. ProtocolError when it is cut short, too long or of an unknown kind."""
    view = memoryview(data)
    try:
        match view[0] if len(view) else None:
            case 0x4D:  # M
                return _decode_message(view)
            case 0x42:  # B
                commit_position, time, xid = _BEGIN.unpack(view)
                return Begin(commit_position, time / 1e6 + EPOCH, xid)
            case 0x43:  # C
                _, _, end_position, _ = _COMMIT.unpack(view)
                return Commit(end_position)
            case tag if tag in _ROWS:
                return Skipped(chr(tag))
            case tag:
                raise ProtocolError(f"a change of an unknown kind: {_spell(tag)}")
    except LayoutError:
        raise ProtocolError(f"a change of kind {_spell(view[0])} has a wrong length: {len(view)} bytes") from None


def encode_status(position: int, now: float, *, reply_requested: bool = False) -> bytes:
    """A status update: everything up to `position` is received, kept and applied. `now` in seconds since 1970."""
    return _STATUS.pack(b"r", position, position, position, int((now - EPOCH) * 1e6), reply_requested)


def _decode_message(view: memoryview) -> LogicalMessage:
    flags, _ = _MESSAGE.unpack_from(view)
    rest = bytes(view[_MESSAGE.size :])
    prefix, end_of_prefix, rest = rest.partition(b"\0")
    if not end_of_prefix:
        raise LayoutError
    (length,) = _LENGTH.unpack_from(rest)
    content = rest[_LENGTH.size :]
    if len(content) != length:
        raise LayoutError
    return LogicalMessage(bool(flags & 1), prefix, content)


def _spell(tag: int | None) -> str:
    return "nothing" if tag is None else f"byte {tag:#04x}"
