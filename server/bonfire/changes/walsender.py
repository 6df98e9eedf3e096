"""One replication connection with a slot of its own, on the event loop: frames in, status updates out.

The slot is temporary: it dies with its connection, whatever kills that, and so never holds back the WAL of a database
whose reader is gone. The price is that a cut loses the place. A lasting slot per node could go on where it was, but the
slot of a node that never comes back fills the database's disk until somebody drops it, and whoever drops it can only
guess (the node may be slow, or cut off and still there). A resync after a rare cut is the better bargain.
"""

import asyncio
import logging
from typing import Protocol

import psycopg
from psycopg import conninfo
from psycopg.pq import DiagnosticField

from bonfire.changes.ends import Ends
from bonfire.changes.lineage import Lineage
from bonfire.changes.pgoutput import encode_status
from bonfire.changes.refusal import refusal_of_slot
from bonfire.changes.side import PUBLICATION, Side
from bonfire.changes.source import SourceUnavailable
from bonfire.changes.timing import Timing
from bonfire.engine.visibility import Visibility
from bonfire_protocol.values import parse_position

_log = logging.getLogger(__name__)

# What DATABASE_URL does not say. A dead network is noticed by the kernel in some 15 s, also with unsent data.
_DEFAULTS = {
    "application_name": "bonfire",
    "connect_timeout": "10",
    "keepalives_idle": "5",
    "keepalives_interval": "5",
    "keepalives_count": "2",
    "tcp_user_timeout": "15000",
}

# Between two lines of the log about what the set-up waits for.
_TELL_EVERY = 5.0
_SETTLE_STEP = 0.005
_SETTLE_LIMIT = 10.0


class Receiver(Protocol):
    """Who takes what the server sends. `frame` and `drained` (after each burst of frames) may raise: that ends the
    stream. `ended` comes once, last, and not after `close`."""

    def frame(self, data: memoryview) -> None: ...
    def drained(self) -> None: ...
    def ended(self, reason: str) -> None: ...


class Walsender:
    """A stream that has been started at `position`. Nothing is read from it before `attach`."""

    def __init__(
        self,
        connection: psycopg.AsyncConnection[tuple[object, ...]],
        slot: str,
        lineage: Lineage,
        position: int,
        timing: Timing,
        *,
        standby: bool,
    ) -> None:
        self.slot = slot
        self.lineage = lineage
        self.standby = standby
        self.position = position
        self._connection = connection
        self._pgconn = connection.pgconn
        self._fileno = connection.pgconn.socket
        self._timing = timing
        self._receiver: Receiver | None = None

    @classmethod
    async def open(cls, ends: Ends, timing: Timing) -> "Walsender":
        """Connect, make the slot and start. Every commit up to `position` is visible to each snapshot taken from then
        on.

        Waits for the transactions that are open in the database, because a slot can only be made behind them.
        SourceUnavailable says why there can be none.
        """
        standby = await ends.check()
        try:
            parameters = {**_DEFAULTS, **conninfo.conninfo_to_dict(ends.url), "replication": "database"}
            target = conninfo.make_conninfo("", **parameters)
        except psycopg.ProgrammingError as error:
            name = "BONFIRE_READ_URL" if ends.replica else "DATABASE_URL"
            raise SourceUnavailable(f"{name} can't be used for reading the WAL: {error}", retry=False) from None
        try:
            connection = await psycopg.AsyncConnection.connect(target, autocommit=True)
        except psycopg.Error as error:
            await ends.read.admits_replication()
            raise SourceUnavailable(f"the replication connection failed: {error}", retry=True) from None
        telling = asyncio.create_task(_tell_of_old_transactions(ends.primary, timing))
        try:
            return await cls._set_up(connection, ends, timing, standby=standby)
        except BaseException as error:
            await connection.close()
            if isinstance(error, psycopg.Error):
                raise refusal_of_slot(error) from None
            raise
        finally:
            telling.cancel()

    @classmethod
    async def _set_up(
        cls, connection: psycopg.AsyncConnection[tuple[object, ...]], ends: Ends, timing: Timing, *, standby: bool
    ) -> "Walsender":
        # Made of the backend's process id, which no other living slot of ours can have.
        slot = f"bonfire_{connection.info.backend_pid}"
        # The server answers a status update at the latest after half of this, however busy it is with decoding, and
        # gives a silent reader up after all of it, also where its own setting is "never".
        await connection.execute(f"SET wal_sender_timeout = {int(timing.silence * 4 / 3 * 1000)}".encode())
        lineage = await _identify(connection, ends.read)
        await ends.agree(lineage)
        async with ends.helping(timing, standby=standby):
            position, seen = await _make_slot(connection, slot, ends.read, export=not standby)
        if not standby:
            # (A standby decodes only what it has replayed, and what it has replayed is visible there.)
            await _settle(ends.read, seen, timing)
        await connection.execute(
            f"START_REPLICATION SLOT {slot} LOGICAL 0/0"
            f" (proto_version '1', messages 'true', publication_names '{PUBLICATION}')".encode()
        )
        return cls(connection, slot, lineage, position, timing, standby=standby)

    def attach(self, receiver: Receiver) -> None:
        """From the next turn of the event loop on, `receiver` is given what comes."""
        self._receiver = receiver
        asyncio.get_running_loop().add_reader(self._fileno, self._readable)

    def send_status(self, position: int, *, reply_requested: bool = False) -> None:
        """Tell the server that everything up to `position` has been taken. Never waits."""
        if self._receiver is None:
            return
        try:
            self._pgconn.put_copy_data(encode_status(position, self._timing.now(), reply_requested=reply_requested))
            self._flush()
        except psycopg.Error as error:
            self._end(_reason(error))

    async def close(self) -> None:
        """Let go of the connection; the server drops the slot as soon as it notices."""
        self._detach()
        await self._connection.close()

    def _readable(self) -> None:
        receiver = self._receiver
        if receiver is None:
            return
        try:
            self._pgconn.consume_input()
            while True:
                length, data = self._pgconn.get_copy_data(1)
                if length <= 0:
                    break
                receiver.frame(data)
                if self._receiver is None:
                    return
            receiver.drained()
        except psycopg.Error as error:
            self._end(_reason(error))
        except Exception as error:
            # A stream that can't be understood, or a sink that broke its promise: neither may end in silence.
            _log.exception("reading the change stream failed")
            self._end(f"the change stream could not be taken in ({type(error).__name__})")
        else:
            if length < 0:
                self._end(self._last_words())

    def _flush(self) -> None:
        loop = asyncio.get_running_loop()
        if self._pgconn.flush():
            loop.add_writer(self._fileno, self._writable)
        else:
            loop.remove_writer(self._fileno)

    def _writable(self) -> None:
        try:
            self._flush()
        except psycopg.Error as error:
            self._end(_reason(error))

    def _last_words(self) -> str:
        """Why the server has ended the stream."""
        result = self._pgconn.get_result()
        message = result and result.error_field(DiagnosticField.MESSAGE_PRIMARY)
        state = result and result.error_field(DiagnosticField.SQLSTATE)
        if not message or not state:
            return "the database ended the change stream"
        return f"the database ended the change stream: {message.decode(errors='replace')} ({state.decode()})"

    def _detach(self) -> Receiver | None:
        receiver, self._receiver = self._receiver, None
        if receiver is not None:
            loop = asyncio.get_running_loop()
            loop.remove_reader(self._fileno)
            loop.remove_writer(self._fileno)
        return receiver

    def _end(self, reason: str) -> None:
        receiver = self._detach()
        if receiver is not None:
            receiver.ended(reason)


async def _identify(connection: psycopg.AsyncConnection[tuple[object, ...]], side: Side) -> Lineage:
    row = await (await connection.execute("IDENTIFY_SYSTEM")).fetchone()
    if row is None:
        raise SourceUnavailable("the database did not say which one it is", retry=True)
    system, timeline, _, _ = row
    return Lineage(str(system), int(str(timeline)), await side.database())


async def _make_slot(
    connection: psycopg.AsyncConnection[tuple[object, ...]], slot: str, side: Side, *, export: bool
) -> tuple[int, Visibility | None]:
    """Make the slot; where it starts, and which transactions have committed before that (None: not to be had, or not
    asked for by `export`)."""
    command = f"CREATE_REPLICATION_SLOT {slot} TEMPORARY LOGICAL pgoutput"
    try:
        cursor = await connection.execute(f"{command} (SNAPSHOT '{'export' if export else 'nothing'}')".encode())
    except psycopg.errors.SerializationFailure:
        # More transactions have failed beside a long one than an exported snapshot has room for.
        cursor = await connection.execute(f"{command} (SNAPSHOT 'nothing')".encode())
    row = await cursor.fetchone()
    if row is None:
        raise SourceUnavailable("the database made a replication slot and did not say where", retry=True)
    _, position, snapshot, _ = row
    seen = None if snapshot is None else await side.visibility_of(str(snapshot))
    return parse_position(str(position)), seen


async def _settle(side: Side, committed: Visibility | None, timing: Timing) -> None:
    """Wait until snapshots see all that has `committed` before the slot's start.

    A commit is in the WAL a moment before it is visible (with synchronous replication, a long moment). One that is in
    the WAL before the slot's start never comes over the stream, so a read that does not see it would miss it for good.
    """
    deadline = timing.monotonic() + _SETTLE_LIMIT
    now = await side.visibility()
    if committed is None:
        # All that may be on its way now; what is merely slow to end comes over the stream anyway.
        deadline = timing.monotonic() + 1.0
        ahead = Visibility(now.xmax, now.xmax, frozenset())
    else:
        ahead = committed
    while any(
        ahead.sees(xid) and not now.sees(xid) for xid in (*now.running, *range(now.xmax, max(now.xmax, ahead.xmax)))
    ):
        if timing.monotonic() > deadline:
            if committed is None:
                return
            raise SourceUnavailable("commits wait for a synchronous standby that does not answer", retry=True)
        await timing.sleep(_SETTLE_STEP)
        now = await side.visibility()


async def _tell_of_old_transactions(side: Side, timing: Timing) -> None:
    while True:
        await timing.sleep(_TELL_EVERY)
        try:
            age = await side.oldest_writer()
        except SourceUnavailable:
            continue
        if age is not None and age > _TELL_EVERY:
            _log.warning("the change stream starts when older transactions end; the oldest is open since %.0f s", age)


def _reason(error: psycopg.Error) -> str:
    """The error's first line: libpq adds guesses about the cause below it."""
    return f"the connection to the database was lost: {str(error).splitlines()[0]}"
