"""Frames in, whole commits and positions out: the pure part of reading the WAL.

Invariants: `position` never goes back; every bonfire commit up to it has been given out, and none behind it. A commit
comes out once it is whole. Messages of others, and transactions without any of ours, only move the position.
"""

from msgspec import Struct

from bonfire.changes import pgoutput
from bonfire.changes.decode import PREFIX, UnreadableMessage, decode_message
from bonfire.changes.gathering import Gathering
from bonfire.changes.pgoutput import Begin, Bytes, Keepalive, LogicalMessage, ProtocolError, Skipped, WalData
from bonfire.engine.commit import Commit


class Advanced(Struct, frozen=True, gc=False):
    """`position` may have moved. `keepalive`: the server said so itself, and, if `reply_requested`, wants an answer."""

    keepalive: bool = False
    reply_requested: bool = False


class Unreadable(Struct, frozen=True):
    """What was told at `position`, by the transaction `xid` if by one, can't be read."""

    position: int
    xid: int | None
    reason: str


Event = Commit | Advanced | Unreadable


class _Transaction:
    """A transaction that has begun."""

    __slots__ = ("begin", "gathering", "unreadable")

    def __init__(self, begin: Begin) -> None:
        self.begin = begin
        self.gathering = Gathering()
        self.unreadable: str | None = None


class Assembler:
    """The state of one replication stream. `position` is where the stream starts; `newest_xid` a recent transaction's
    id in full, by which the short ones in the stream are completed. `commit_start` is where the record of the last
    commit begins that was given out."""

    def __init__(self, position: int, newest_xid: int) -> None:
        self.position = position
        self.commit_start = position
        self._newest_xid = newest_xid
        self._open: _Transaction | None = None

    def note_xid(self, xid: int) -> None:
        """`xid`, in full, is a recent one: to be told at least once in two thousand million transactions."""
        self._newest_xid = max(self._newest_xid, xid)

    def feed(self, data: Bytes) -> Event | None:
        """What the next frame brings; None while a transaction is not whole. ProtocolError when the stream makes no
        sense: then it can't be read on."""
        match pgoutput.decode_frame(data):
            case WalData(change):
                return self._change(change)
            case Keepalive(position, reply_requested):
                if self._open is not None:
                    # The server means what it has read; of what it has sent we lack the rest of this transaction.
                    position = min(position, self._open.begin.commit_position)
                self.position = max(self.position, position)
                return Advanced(True, reply_requested)

    def _change(self, data: memoryview) -> Event | None:
        match pgoutput.decode_change(data):
            case LogicalMessage(_, prefix, _) if prefix != PREFIX:
                return None
            case LogicalMessage(transactional, _, content):
                return self._message(transactional, content)
            case Begin() as begin:
                if self._open is not None:
                    raise ProtocolError("a transaction began inside another one")
                self._open = _Transaction(begin)
                return None
            case pgoutput.Commit(end_position):
                return self._commit(end_position)
            case Skipped():
                return None

    def _message(self, transactional: bool, content: bytes) -> Event | None:
        if not transactional:
            return Unreadable(self.position, None, "a message outside of any transaction")
        if self._open is None:
            raise ProtocolError("a transaction's message came before its beginning")
        try:
            self._open.gathering.add(decode_message(content), len(content))
        except UnreadableMessage as error:
            self._open.unreadable = str(error)
        return None

    def _commit(self, end_position: int) -> Event:
        transaction, self._open = self._open, None
        if transaction is None:
            raise ProtocolError("a transaction ended that had not begun")
        if end_position <= self.position:
            raise ProtocolError("a commit came behind its place in the order")
        self.position = end_position
        self.commit_start = transaction.begin.commit_position
        xid = self._widen(transaction.begin.xid)
        if transaction.unreadable is not None:
            return Unreadable(end_position, xid, transaction.unreadable)
        gathered = transaction.gathering.finish()
        if not gathered.messages and not gathered.bulk:
            return Advanced()
        return Commit(end_position, xid, gathered.messages, transaction.begin.at, gathered.bulk)

    def _widen(self, short: int) -> int:
        """The id nearest to the newest one whose low 32 bits are `short`."""
        distance = (short - self._newest_xid + 2**31) % 2**32 - 2**31
        xid = self._newest_xid + distance
        self.note_xid(xid)
        return xid
