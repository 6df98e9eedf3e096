"""One client: frames in, what they ask for, frames out.

Order: subscriptions and pings are done as they come; mutations one after the other (`writing.py`); reads beside them.
Everything that goes out goes through the connection's wire, so it leaves in the order in which it was decided.
"""

import asyncio
import logging
from collections.abc import Coroutine
from typing import TYPE_CHECKING

from bonfire.access.audit import event_of
from bonfire.access.gate import Access
from bonfire.access.principal import Principal
from bonfire.engine.session import Session
from bonfire.sync.allowance import Allowance, weight
from bonfire.sync.asking import Asking
from bonfire.sync.credentials import Credentials
from bonfire.sync.fanout import frame_message
from bonfire.sync.handshake import Upgrade
from bonfire.sync.refusals import another_caller, another_version, expired, hello_expected, id_of, internal, too_many
from bonfire.sync.stream import same_history
from bonfire.sync.subscribing import Subscribing
from bonfire.sync.websocket import LiveProtocol
from bonfire.sync.writing import Writing
from bonfire_protocol.codec import decode_up, encode
from bonfire_protocol.down import DownFrame, Pong, Refused, Renewed, Welcome
from bonfire_protocol.faults import CloseCode, Fault, FaultCode
from bonfire_protocol.up import Check, Hello, Mutate, Ping, Query, Renew, Subscribe, Unsubscribe, UpFrame
from bonfire_protocol.values import format_position, parse_position
from bonfire_protocol.version import PROTOCOL_VERSION

if TYPE_CHECKING:
    from bonfire.sync.endpoint import Live

log = logging.getLogger("bonfire.socket")


class Connection:
    """One client (bonfire.sync.websocket.Receiver). It is its engine session's key (bonfire.sync.hub.Peer), and one of
    those who are let in (bonfire.sync.admission.Member)."""

    __slots__ = (
        "_address",
        "_allowance",
        "_asking",
        "_credentials",
        "_doubted",
        "_gone",
        "_hub",
        "_kept_waiting",
        "_let_in_as",
        "_live",
        "_name",
        "_patience",
        "_pinged",
        "_protocol",
        "_queries",
        "_session",
        "_stalled",
        "_subscribing",
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
        self._address = live.address_of(upgrade)
        self._session: Session | None = None
        self._subscribing: Subscribing | None = None
        self._credentials = Credentials(live.clock, self.send, self._expire)
        # What comes while the client is being welcomed; and who ends its patience with one that does not say hello.
        self._kept_waiting: list[bytes] | None = None
        self._patience: asyncio.TimerHandle | None = asyncio.get_running_loop().call_later(
            live.limits.hello_seconds, self._no_hello
        )
        self._let_in_as: Principal | None = None
        self._doubted = False
        self._queries: set[asyncio.Task[None]] = set()
        self._asking: Asking | None = None
        self._writing: Writing | None = None
        self._gone = False
        self._allowance = Allowance(
            live.limits.frames_at_once, live.limits.frames_per_second, asyncio.get_running_loop().time
        )
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

    def _written(self) -> int:
        """The position of its newest own commit."""
        return 0 if self._writing is None else self._writing.position

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
        self._credentials.drop()
        if self._let_in_as is not None:
            self._live.admission.leave(self)
        if self._subscribing is not None:
            self._subscribing.leave()
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
        if wait := self._allowance.spend(others + sum(map(weight, messages))):
            # Who sends more than it may is read from later: nothing is lost, and it slows down nobody but itself.
            self._protocol.read_on_in(wait)
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
        if self._patience is not None:
            self._patience.cancel()
            self._patience = None
        assert self._upgrade is not None
        upgrade, self._upgrade = self._upgrade, None
        self._kept_waiting = []
        self._beside(self._let_in(frame, upgrade))

    async def _let_in(self, hello: Hello, upgrade: Upgrade) -> None:
        """Whose this is, what they may see, and whether this node may show it: then what they said meanwhile."""
        try:
            principal = await self._live.authenticate(hello, upgrade)
            if self._live.draining:
                self.close(CloseCode.draining, "this server is stopping")
                return
            self._let_in_as = principal
            # First, so that no change of what it may see is missed.
            self._live.admission.join(self)
            seen = parse_position(hello.position) if hello.position is not None else 0
            if not await self._may_serve(seen, hello.stream):
                # A client must not be shown an older state than the one it has seen elsewhere.
                self.close(CloseCode.overloaded, "this server is behind what was shown elsewhere")
                return
            access = await self._live.admission.admit(principal)
            while self._doubted:
                # What it may see has changed meanwhile.
                self._doubted = False
                access = await self._live.admission.admit(principal)
        except Fault as fault:
            later = fault.next == "retry"
            self._turn_away(fault, CloseCode.overloaded if later else CloseCode.unauthenticated, fault.code.value)
            return
        except Exception:
            log.exception("a client could not be let in")
            self.close(CloseCode.overloaded, "this server can't tell where it stands")
            return
        self._welcome(access, seen, hello.stream)
        waiting, self._kept_waiting = self._kept_waiting, None
        for data in waiting or ():
            self._route(data)
        self._hub.pump()

    async def _may_serve(self, seen: int, stream: str | None) -> bool:
        if seen <= self._hub.engine.position or not same_history(stream, self._hub.source.stream):
            return True
        return await self._hub.may_serve(seen, self._live.limits.catch_up_seconds)

    def _welcome(self, access: Access, seen: int, stream: str | None) -> None:
        engine = self._hub.engine
        principal = access.principal
        # It is at work from here on: what it is shown goes out behind its welcome.
        session = self._session = self._hub.join(self, principal.tenant, since=None)
        self._subscribing = Subscribing(
            self._live,
            session,
            access,
            self.send,
            self._refuse,
            connection=self._name,
            address=self._address,
        )
        self._asking = Asking(self._live, session, self._subscribing, self.send, self._refuse)
        here = self._subscribing.stream_of(access)
        if 0 < seen <= engine.position and stream == here:
            session.since = seen
        left = self._credentials.left(principal.expires_at)
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
                None if left is None else max(0, int(1000 * left)),
            )
        )
        self._hub.pump()
        self._live.trail.later(event_of(principal, "login", "socket", address=self._address, request=self._name))
        self._credentials.hold(principal.expires_at)

    def _turn_away(self, fault: Fault, code: CloseCode, reason: str) -> None:
        self._refuse(fault, None)
        self.close(code, reason)

    # ---- frames ---------------------------------------------------------------------------------------------

    def _take(self, data: bytes) -> None:
        try:
            frame = decode_up(data, self.wire.spelling.format)
        except Fault as fault:
            self._refuse(fault, id_of(data))
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
        assert self._subscribing is not None
        assert self._asking is not None
        limits = self._live.limits
        match frame:
            case Hello():
                raise Fault(FaultCode.bad_frame, "this connection has said hello already", field="type")
            case Subscribe():
                self._subscribing.open(frame)
            case Unsubscribe():
                self._subscribing.close(frame.id)
            case Renew():
                self._beside(self._renew(frame))
            case Query():
                if len(self._queries) >= limits.queries_at_once:
                    raise too_many("queries under way", limits.queries_at_once)
                self._beside(self._asking.answer(frame, self._written))
            case Mutate():
                if self._writing is None:
                    self._writing = Writing(
                        self._live, self._session, self._subscribing, self.send, self._refuse, self._address
                    )
                self._writing.add(frame)
            case Check():
                self._hub.engine.check(self._session, frame.id, frame.subscription)
            case Ping():
                self.send(Pong(format_position(self._hub.engine.position), frame.id))

    # ---- what it may see (bonfire.sync.admission.Member) ----------------------------------------------------

    @property
    def principal(self) -> Principal:
        """Whose this is, once that is known."""
        assert self._let_in_as is not None
        return self._let_in_as

    def doubt(self, position: int) -> None:
        if self._session is not None:
            self._hub.engine.doubt(self._session, position)
        else:
            self._doubted = True

    def regrant(self, access: Access) -> None:
        if self._subscribing is not None:
            self._subscribing.regrant(access)

    async def _renew(self, frame: Renew) -> None:
        """A new token in place of the one that ends. It may say other roles, which is a change of what may be seen."""
        mine = self.principal
        try:
            principal = await self._live.renew(frame.token, mine.tenant, self._address)
            if (principal.tenant, principal.answering) != (mine.tenant, mine.answering):
                raise another_caller()
        except Fault as fault:
            self._refuse(fault, frame.id)
            return
        self._let_in_as = principal
        self._credentials.hold(principal.expires_at)
        left = self._credentials.left(principal.expires_at)
        self.send(Renewed(frame.id, None if left is None else max(0, int(1000 * left))))
        # Doubted until it is decided, so that nothing is shown by the old token's rights any more.
        self.doubt(self._hub.engine.position)
        self._live.admission.reconsider(self)

    def _expire(self) -> None:
        self._refuse(expired(), None)
        self.close(CloseCode.unauthenticated, "the token has ended")

    def _beside(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(work)
        self._queries.add(task)
        task.add_done_callback(self._queries.discard)

    def _refuse(self, fault: Fault, frame_id: str | None) -> None:
        self._live.refusals[fault.code.value] += 1
        self.send(Refused(fault.code, fault.message, fault.next, frame_id, fault.field, fault.expected, fault.got))
