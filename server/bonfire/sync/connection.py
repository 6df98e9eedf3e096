"""One client: frames in, what they ask for, frames out.

Order: subscriptions and pings are done as they come; mutations of one connection one after the other, in the order
sent; reads beside them. Everything that goes out goes through the connection's wire, so it leaves in the order in
which it was decided.
"""

import asyncio
import json
import logging
from collections import deque
from collections.abc import Mapping
from typing import TYPE_CHECKING

import msgspec
from msgspec import Raw

from bonfire.access.principal import Principal
from bonfire.engine.commit import IndexProgress
from bonfire.engine.session import Session
from bonfire.sync.fanout import frame_message
from bonfire.sync.handshake import Upgrade
from bonfire.sync.reader import plan
from bonfire.sync.stream import same_history, stream_name
from bonfire.sync.websocket import LiveProtocol
from bonfire_protocol.codec import decode_up, encode
from bonfire_protocol.down import Committed, DownFrame, Indexed, IndexState, Pong, Refused, Result, Welcome
from bonfire_protocol.faults import CloseCode, Fault, FaultCode
from bonfire_protocol.up import Check, Hello, Mutate, Ping, Query, Subscribe, Unsubscribe, UpFrame
from bonfire_protocol.values import format_position, parse_position
from bonfire_protocol.version import PROTOCOL_VERSION

if TYPE_CHECKING:
    from bonfire.sync.endpoint import Live

log = logging.getLogger("bonfire.socket")

FRAME_BYTES = 4096
"""A larger frame counts as so many of this size."""

MOST_WAITING_BYTES = 8 * 1024 * 1024
"""Of one client's mutations that wait for those before them."""

MOST_ARGS_BYTES = 16 * 1024
"""Of one subscription: they are kept as long as it is open."""


class Connection:
    """One client (bonfire.sync.websocket.Receiver). It is its engine session's key (bonfire.sync.hub.Peer)."""

    __slots__ = (
        "_allowance",
        "_allowed_at",
        "_early",
        "_following",
        "_gone",
        "_hub",
        "_kept_waiting",
        "_live",
        "_mutations",
        "_mutator",
        "_name",
        "_patience",
        "_pinged",
        "_principal",
        "_protocol",
        "_queries",
        "_session",
        "_stalled",
        "_unanswered",
        "_unsent",
        "_upgrade",
        "_waiting_bytes",
        "_written",
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
        self._mutations: deque[Mutate] = deque()
        self._mutator: asyncio.Task[None] | None = None
        self._unanswered: str | None = None
        self._written = 0
        self._early: list[IndexProgress] = []
        self._following: dict[str, set[str]] = {}
        self._gone = False
        self._allowance = float(live.limits.frames_at_once)
        self._allowed_at = asyncio.get_running_loop().time()
        self._pinged = 0
        self._stalled = 0.0
        self._unsent = 0
        self._waiting_bytes = 0

    # ---- the hub's side (Peer) ------------------------------------------------------------------------------

    def committed(self, mutation: str, position: int) -> None:
        """The next commit is this mutation. Its answer goes out before its transition, so that the client knows at
        which transition its optimistic values give way."""
        if mutation == self._unanswered and self._session is not None:
            self._hub.engine.await_answer(self._session, position)
            loop = asyncio.get_running_loop()
            self._patience = loop.call_later(self._live.limits.hold_seconds, self._let_go)

    def cut(self) -> None:
        """Let go of it without a word: what it was shown never was. It comes back afresh."""
        log.info("a client was cut off, to come back")
        self.wire.abort()

    def indexed(self, progress: IndexProgress) -> None:
        """An index has got on with one of this connection's mutations."""
        if progress.mutation == self._unanswered:
            self._early.append(progress)
            return
        following = self._following.get(progress.mutation)
        if following is None or progress.index not in following:
            return
        self.send(Indexed(progress.mutation, progress.index, progress.state, progress.reason))
        if progress.state != "pending":
            following.discard(progress.index)
            if not following:
                self._forget(progress.mutation)

    def send(self, frame: DownFrame) -> None:
        """A frame for this connection alone, which is no part of a transition."""
        spelling = self.wire.spelling
        self._hub.flusher.sent.frames += 1
        self.wire.write(frame_message(encode(frame, spelling.format), spelling))

    # ---- life -----------------------------------------------------------------------------------------------

    @property
    def busy(self) -> bool:
        """Whether a mutation of it is under way."""
        return self._unanswered is not None

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
        for mutation in list(self._following):
            self._forget(mutation)
        # A mutation under way runs to its end, so that its outcome is known when the client asks again; those that
        # still wait were never begun.
        self._mutations.clear()

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
            self._turn_away(_hello_expected(), CloseCode.hello_expected, "the first frame must be hello")
            return
        if frame.protocol != PROTOCOL_VERSION:
            reason = f"this server speaks version {PROTOCOL_VERSION}"
            self._turn_away(_version(frame.protocol), CloseCode.version_unsupported, reason)
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
            self._refuse(_internal(error), getattr(frame, "id", None))

    def _do(self, frame: UpFrame) -> None:
        assert self._session is not None
        assert self._principal is not None
        limits = self._live.limits
        match frame:
            case Hello():
                raise Fault(FaultCode.bad_frame, "this connection has said hello already", field="type")
            case Subscribe():
                if len(self._session.subscriptions) >= limits.subscriptions:
                    raise _too_many("open subscriptions", limits.subscriptions)
                if len(frame.args) > MOST_ARGS_BYTES:
                    raise _too_large("args", MOST_ARGS_BYTES, len(frame.args))
                query = self._live.registry.find_query(frame.query)
                identity, live_plan = plan(query, bytes(frame.args), self._principal)
                self._hub.engine.subscribe(self._session, frame.id, identity, live_plan, resume=frame.resume)
            case Unsubscribe():
                self._hub.engine.unsubscribe(self._session, frame.id)
            case Query():
                if len(self._queries) >= limits.queries_at_once:
                    raise _too_many("queries under way", limits.queries_at_once)
                task = asyncio.create_task(self._query(frame))
                self._queries.add(task)
                task.add_done_callback(self._queries.discard)
            case Mutate():
                size = len(frame.args)
                if len(self._mutations) >= limits.mutations_waiting:
                    raise _too_many("mutations waiting", limits.mutations_waiting)
                if self._mutations and self._waiting_bytes + size > MOST_WAITING_BYTES:
                    raise _too_many("bytes of mutations waiting", MOST_WAITING_BYTES)
                self._mutations.append(frame)
                self._waiting_bytes += size
                if self._mutator is None:
                    self._mutator = asyncio.create_task(self._mutate_in_order())
            case Check():
                self._hub.engine.check(self._session, frame.id, frame.subscription)
            case Ping():
                self.send(Pong(format_position(self._hub.engine.position), frame.id))

    async def _query(self, frame: Query) -> None:
        assert self._principal is not None
        try:
            query = self._live.registry.find_query(frame.query)
            _, query_plan = plan(query, bytes(frame.args), self._principal)
            answer, position = await self._hub.read_once(self._principal.tenant, query_plan, after=self._written)
            if isinstance(answer, Fault):
                raise answer
            value = _value(answer, one=getattr(query_plan, "shape", "list") == "one")
            self.send(Result(frame.id, format_position(position), value))
        except Fault as fault:
            self._refuse(fault, frame.id)
        except Exception as error:
            log.exception("query %s failed", frame.query)
            self._refuse(_internal(error), frame.id)

    # ---- mutations ------------------------------------------------------------------------------------------

    async def _mutate_in_order(self) -> None:
        while self._mutations:
            frame = self._mutations.popleft()
            self._waiting_bytes -= len(frame.args)
            self._unanswered = frame.id
            try:
                await self._mutate(frame)
            except Fault as fault:
                self._refuse(fault, frame.id)
            except Exception as error:
                log.exception("mutation %s failed", frame.mutation)
                self._refuse(_internal(error), frame.id)
            finally:
                self._unanswered = None
                self._let_go()
                early, self._early = self._early, []
                for progress in early:
                    self.indexed(progress)
                if self._gone or frame.id not in self._following:
                    self._forget(frame.id)
        self._mutator = None

    async def _mutate(self, frame: Mutate) -> None:
        assert self._principal is not None
        assert self._session is not None
        self._hub.expect_index(self._principal.tenant, frame.id, self)
        outcome = await self._live.mutate(self._principal, frame)
        position = await self._hub.position_of(outcome.xid, new=not outcome.replayed)
        self._written = max(self._written, position)
        pending = {index for index, state in outcome.indexes.items() if state == "pending"}
        if pending:
            self._following[frame.id] = pending
        self.send(
            Committed(
                frame.id,
                "committed",
                format_position(position),
                Raw(outcome.value),
                dict.fromkeys(outcome.views, "fresh"),
                _states(outcome.indexes),
            )
        )
        self._let_go()
        if not self._gone:
            # Where it holds nothing that this write touched: say that what it holds is true there too.
            self._hub.engine.confirm(self._session, position)
            self._hub.pump()

    def _let_go(self) -> None:
        """What was held back for the answer may go."""
        if self._patience is not None:
            self._patience.cancel()
            self._patience = None
            if self._session is not None and not self._gone:
                self._hub.engine.answered(self._session)
                self._hub.pump()

    def _forget(self, mutation: str) -> None:
        self._following.pop(mutation, None)
        if self._principal is not None:
            self._hub.forget_index(self._principal.tenant, mutation, self)

    def _refuse(self, fault: Fault, frame_id: str | None) -> None:
        self._live.refusals[fault.code.value] += 1
        self.send(Refused(fault.code, fault.message, fault.next, frame_id, fault.field, fault.expected, fault.got))


def _states(indexes: Mapping[str, str]) -> dict[str, IndexState]:
    return msgspec.convert(indexes, dict[str, IndexState])


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


def _hello_expected() -> Fault:
    return Fault(
        FaultCode.bad_frame, "the first frame must be hello", field="type", expected="hello", got="another frame type"
    )


def _version(got: int) -> Fault:
    return Fault(
        FaultCode.unsupported,
        "this version of the protocol is not spoken here",
        field="protocol",
        expected=str(PROTOCOL_VERSION),
        got=str(got),
    )


def _too_many(what: str, limit: int) -> Fault:
    return Fault(FaultCode.too_many, f"too many {what} on this connection", expected=f"at most {limit}")


def _too_large(field: str, limit: int, got: int) -> Fault:
    message = "a subscription's arguments are kept, so they must be short"
    return Fault(FaultCode.too_large, message, field=field, expected=f"at most {limit} bytes", got=f"{got} bytes")


def _internal(error: Exception) -> Fault:
    return Fault(FaultCode.internal, f"the server failed at this ({type(error).__name__}); it is in its log")
