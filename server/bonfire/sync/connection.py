"""One client: frames in, what they ask for, frames out.

Order: subscriptions and pings are done as they come; mutations one after the other (`writing.py`); reads beside them.
Everything that goes out goes through the connection's wire, so it leaves in the order in which it was decided.
"""

import asyncio
import json
import logging
from typing import TYPE_CHECKING

from msgspec import Raw

from bonfire.access.principal import Principal
from bonfire.engine.session import Session
from bonfire.sync.fanout import frame_message
from bonfire.sync.handshake import Upgrade
from bonfire.sync.reader import plan
from bonfire.sync.refusals import another_version, hello_expected, internal, too_large, too_many
from bonfire.sync.stream import same_history, stream_name
from bonfire.sync.websocket import LiveProtocol
from bonfire.sync.writing import Writing
from bonfire_protocol.codec import decode_up, encode
from bonfire_protocol.down import DownFrame, Pong, Refused, Result, Welcome
from bonfire_protocol.faults import CloseCode, Fault, FaultCode
from bonfire_protocol.up import Check, Hello, Mutate, Ping, Query, Subscribe, Unsubscribe, UpFrame
from bonfire_protocol.values import format_position, parse_position
from bonfire_protocol.version import PROTOCOL_VERSION

if TYPE_CHECKING:
    from bonfire.sync.endpoint import Live

log = logging.getLogger("bonfire.socket")

FRAME_BYTES = 4096
"""A larger frame counts as so many of this size."""

MOST_ARGS_BYTES = 16 * 1024
"""Of one subscription: they are kept as long as it is open."""


class Connection:
    """One client (bonfire.sync.websocket.Receiver). It is its engine session's key (bonfire.sync.hub.Peer)."""

    __slots__ = (
        "_allowance",
        "_allowed_at",
        "_gone",
        "_hub",
        "_kept_waiting",
        "_live",
        "_name",
        "_patience",
        "_pinged",
        "_principal",
        "_protocol",
        "_queries",
        "_session",
        "_stalled",
        "_unsent",
        "_upgrade",
        "_writing",
        "wire",
    )

    def __init__(self, live: "Live", protocol: LiveProtocol, upgrade: Upgrade, name: str) -> None:
        self.wire = protocol.wire
        self._live = live
        self._hub = live.hub
        self._protocol = protocol
        self._upgrade: Upgrade | None = upgrade
        self._name = name
        self._principal: Principal | None = None
        self._session: Session | None = None
        # What comes while the client is being welcomed; and who ends its patience with one that does not say hello.
        self._kept_waiting: list[bytes] | None = None
        self._patience: asyncio.TimerHandle | None = asyncio.get_running_loop().call_later(
            live.limits.hello_seconds, self._no_hello
        )
        self._queries: set[asyncio.Task[None]] = set()
        self._writing: Writing | None = None
        self._gone = False
        self._allowance = float(live.limits.frames_at_once)
        self._allowed_at = asyncio.get_running_loop().time()
        self._pinged = 0
        self._stalled = 0.0
        self._unsent = 0

    # ---- the hub's side (Peer) ------------------------------------------------------------------------------

    def cut(self) -> None:
        """Let go of it without a word: what it was shown never was. It comes back afresh."""
        log.info("a client was cut off, to come back")
        self.wire.abort()

    def send(self, frame: DownFrame) -> None:
        """A frame for this connection alone, which is no part of a transition."""
        spelling = self.wire.spelling
        self._hub.flusher.sent.frames += 1
        self.wire.write(frame_message(encode(frame, spelling.format), spelling))

    # ---- life -----------------------------------------------------------------------------------------------

    @property
    def busy(self) -> bool:
        """Whether a mutation of it is under way."""
        return self._writing is not None and self._writing.busy

    def close(self, code: CloseCode, reason: str) -> None:
        self._protocol.close(code, reason)

    def tend(self, seconds: float) -> None:
        """Called every so many seconds. A peer that gives no sign of life is cut off; so is one that has stopped
        reading. It loses nothing by it: it comes back, and resumes."""
        if self.wire.paused:
            unsent = self.wire.buffered()
            self._stalled = self._stalled + seconds if unsent >= self._unsent else 0.0
            self._unsent = unsent
            if self._stalled >= self._live.limits.stalled_seconds:
                self._hub.cut_off += 1
                self.cut()
            return
        self._stalled, self._unsent = 0.0, 0
        if not self._protocol.listens:
            # It has said too much, so whether it still speaks is not known.
            return
        if self._protocol.heard:
            self._protocol.heard = False
            self._pinged = 0
        elif self._pinged < 2:
            self._pinged += 1
            self._protocol.ping()
        else:
            log.info("a client gives no sign of life")
            self.wire.abort()

    def lost(self) -> None:
        self._gone = True
        self._live.connections.discard(self)
        if self._patience is not None:
            self._patience.cancel()
        if self._session is not None:
            self._hub.engine.leave(self._session)
            self._hub.pump()
        for task in self._queries:
            task.cancel()
        if self._writing is not None:
            self._writing.leave()

    def pause(self) -> None:
        if self._session is not None:
            self._hub.engine.park(self._session)

    def resume(self) -> None:
        if self._session is not None:
            self._hub.engine.unpark(self._session)
            self._hub.pump()

    # ---- hello ----------------------------------------------------------------------------------------------

    def receive(self, messages: list[bytes], others: int = 0) -> None:
        received = self._live.received
        received.frames += len(messages)
        received.bytes += sum(map(len, messages))
        self._spend(others + sum(1 + len(data) // FRAME_BYTES for data in messages))
        for data in messages:
            self._route(data)
        self._hub.pump()

    def _route(self, data: bytes) -> None:
        if self._gone:
            return
        if self._kept_waiting is not None:
            self._kept_waiting.append(data)
        elif self._session is None:
            self._greet(data)
        else:
            self._take(data)

    def _no_hello(self) -> None:
        # It may have been frozen at this moment, as a phone's page is: it may come back at once.
        self.close(CloseCode.come_back, "no hello came")

    def _greet(self, data: bytes) -> None:
        try:
            frame = decode_up(data, self.wire.spelling.format)
        except Fault as fault:
            self._turn_away(fault, CloseCode.bad_frame, "the first frame must be hello")
            return
        if not isinstance(frame, Hello):
            self._turn_away(hello_expected(), CloseCode.hello_expected, "the first frame must be hello")
            return
        if frame.protocol != PROTOCOL_VERSION:
            reason = f"this server speaks version {PROTOCOL_VERSION}"
            self._turn_away(another_version(frame.protocol), CloseCode.version_unsupported, reason)
            return
        assert self._upgrade is not None
        try:
            self._principal = self._live.authenticate(frame, self._upgrade)
        except Fault as fault:
            self._turn_away(fault, CloseCode.unauthenticated, fault.code.value)
            return
        if self._live.draining:
            self.close(CloseCode.draining, "this server is stopping")
            return
        if self._patience is not None:
            self._patience.cancel()
            self._patience = None
        self._upgrade = None
        seen = parse_position(frame.position) if frame.position is not None else 0
        if seen <= self._hub.engine.position or not same_history(frame.stream, self._hub.source.stream):
            self._welcome(self._principal, seen, frame.stream)
        else:
            self._kept_waiting = []
            task = asyncio.create_task(self._catch_up(self._principal, seen, frame.stream))
            self._queries.add(task)
            task.add_done_callback(self._queries.discard)

    async def _catch_up(self, principal: Principal, seen: int, stream: str | None) -> None:
        try:
            may_serve = await self._hub.may_serve(seen, self._live.limits.catch_up_seconds)
        except Exception:
            log.exception("whether a client may be served could not be told")
            self.close(CloseCode.overloaded, "this server can't tell where it stands")
            return
        if not may_serve:
            # A client must not be shown an older state than the one it has seen elsewhere.
            self.close(CloseCode.overloaded, "this server is behind what was shown elsewhere")
            return
        self._welcome(principal, seen, stream)
        waiting, self._kept_waiting = self._kept_waiting, None
        for data in waiting or ():
            self._route(data)
        self._hub.pump()

    def _welcome(self, principal: Principal, seen: int, stream: str | None) -> None:
        engine = self._hub.engine
        here = stream_name(self._hub.source.stream, self._live.functions, principal)
        self.send(
            Welcome(
                PROTOCOL_VERSION,
                self._name,
                principal.tenant,
                principal.user,
                format_position(engine.position),
                self._live.stale_after_ms,
                self._hub.source.kind,
                here,
            )
        )
        resumes = 0 < seen <= engine.position and stream == here
        self._session = self._hub.join(self, principal.tenant, principal.access, since=seen if resumes else None)
        self._hub.pump()

    def _turn_away(self, fault: Fault, code: CloseCode, reason: str) -> None:
        self._refuse(fault, None)
        self.close(code, reason)

    # ---- frames ---------------------------------------------------------------------------------------------

    def _spend(self, frames: int) -> None:
        """Who sends more than it may is read from later: nothing is lost, and it slows down nobody but itself."""
        limits = self._live.limits
        now = asyncio.get_running_loop().time()
        earned = (now - self._allowed_at) * limits.frames_per_second
        self._allowance = min(limits.frames_at_once, self._allowance + earned) - frames
        self._allowed_at = now
        if self._allowance < 0:
            self._protocol.read_on_in(-self._allowance / limits.frames_per_second)

    def _take(self, data: bytes) -> None:
        try:
            frame = decode_up(data, self.wire.spelling.format)
        except Fault as fault:
            self._refuse(fault, _id_of(data))
            return
        try:
            self._do(frame)
        except Fault as fault:
            self._refuse(fault, getattr(frame, "id", None))
        except Exception as error:
            # What an application's own code makes of arguments must not cost the client its other subscriptions.
            log.exception("a %s frame failed", type(frame).__name__)
            self._refuse(internal(error), getattr(frame, "id", None))

    def _do(self, frame: UpFrame) -> None:
        assert self._session is not None
        assert self._principal is not None
        limits = self._live.limits
        match frame:
            case Hello():
                raise Fault(FaultCode.bad_frame, "this connection has said hello already", field="type")
            case Subscribe():
                if len(self._session.subscriptions) >= limits.subscriptions:
                    raise too_many("open subscriptions", limits.subscriptions)
                if len(frame.args) > MOST_ARGS_BYTES:
                    raise too_large("args", MOST_ARGS_BYTES, len(frame.args))
                query = self._live.registry.find_query(frame.query)
                identity, live_plan = plan(query, bytes(frame.args), self._principal)
                self._hub.engine.subscribe(self._session, frame.id, identity, live_plan, resume=frame.resume)
            case Unsubscribe():
                self._hub.engine.unsubscribe(self._session, frame.id)
            case Query():
                if len(self._queries) >= limits.queries_at_once:
                    raise too_many("queries under way", limits.queries_at_once)
                task = asyncio.create_task(self._query(frame))
                self._queries.add(task)
                task.add_done_callback(self._queries.discard)
            case Mutate():
                if self._writing is None:
                    self._writing = Writing(self._live, self._session, self._principal, self.send, self._refuse)
                self._writing.add(frame)
            case Check():
                self._hub.engine.check(self._session, frame.id, frame.subscription)
            case Ping():
                self.send(Pong(format_position(self._hub.engine.position), frame.id))

    async def _query(self, frame: Query) -> None:
        assert self._principal is not None
        try:
            query = self._live.registry.find_query(frame.query)
            _, query_plan = plan(query, bytes(frame.args), self._principal)
            written = 0 if self._writing is None else self._writing.position
            answer, position = await self._hub.read_once(self._principal.tenant, query_plan, after=written)
            if isinstance(answer, Fault):
                raise answer
            value = _value(answer, one=getattr(query_plan, "shape", "list") == "one")
            self.send(Result(frame.id, format_position(position), value))
        except Fault as fault:
            self._refuse(fault, frame.id)
        except Exception as error:
            log.exception("query %s failed", frame.query)
            self._refuse(internal(error), frame.id)

    def _refuse(self, fault: Fault, frame_id: str | None) -> None:
        self._live.refusals[fault.code.value] += 1
        self.send(Refused(fault.code, fault.message, fault.next, frame_id, fault.field, fault.expected, fault.got))


def _id_of(data: bytes) -> str | None:
    """The id of a frame that is wrong otherwise, so that its sender can tell which one was refused."""
    try:
        # The standard library's parser: it reads on over text that is no Unicode, which may be what is wrong.
        named = json.loads(data)
        found = named.get("id") if isinstance(named, dict) else None
        return found if isinstance(found, str) and found.isprintable() and len(found) <= 128 else None
    except (UnicodeError, ValueError, RecursionError):
        return None


def _value(rows: list[Raw], *, one: bool) -> Raw:
    if one:
        return rows[0] if rows else Raw(b"null")
    return Raw(b"[" + b",".join(bytes(row) for row in rows) + b"]")
