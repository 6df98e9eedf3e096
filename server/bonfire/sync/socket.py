"""One WebSocket connection: frames in, what they ask for, frames out.

Order: subscriptions and pings are done as they come; mutations of one connection one after the other, in the order
sent; reads beside them. Everything that goes out goes through the connection's wire, so it leaves in the order in
which it was decided.
"""

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec
from msgspec import Raw
from starlette.websockets import WebSocket, WebSocketDisconnect

from bonfire.access.principal import Principal
from bonfire.clinical.execute import Outcome
from bonfire.clinical.registry import Registry
from bonfire.engine.commit import IndexProgress
from bonfire.engine.session import Session
from bonfire.sync.fanout import EXTENSION, Wire, frame_message
from bonfire.sync.hub import Hub
from bonfire.sync.reader import plan
from bonfire_protocol.codec import Format, decode_up, encode
from bonfire_protocol.down import Committed, DownFrame, Indexed, IndexState, Pong, Refused, Result, Welcome
from bonfire_protocol.faults import CloseCode, Fault, FaultCode
from bonfire_protocol.up import Check, Hello, Mutate, Ping, Query, Subscribe, Unsubscribe, UpFrame
from bonfire_protocol.values import format_position, parse_position
from bonfire_protocol.version import MSGPACK_SUBPROTOCOL, PROTOCOL_VERSION

log = logging.getLogger("bonfire.socket")

Mutator = Callable[[Principal, Mutate], Awaitable[Outcome]]
Authenticator = Callable[[Hello, WebSocket], Principal]


@dataclass(frozen=True)
class Limits:
    """What one connection may ask for. `hello_seconds`: until the first frame; `catch_up_seconds`: how long a client
    that has seen a newer position than this node waits for it here; `hold_seconds`: how long a transition waits for the
    answer of the client's own mutation, which a database that is lost just after the commit can keep back for long."""

    subscriptions: int = 1000
    queries_at_once: int = 16
    mutations_waiting: int = 256
    hello_seconds: float = 10.0
    catch_up_seconds: float = 2.0
    hold_seconds: float = 1.0


class Live:
    """What all connections of a node share."""

    def __init__(
        self,
        hub: Hub,
        registry: Registry,
        authenticate: Authenticator,
        mutate: Mutator,
        new_id: Callable[[], str],
        *,
        stale_after_ms: int,
        limits: Limits,
    ) -> None:
        self.hub = hub
        self.registry = registry
        self.authenticate = authenticate
        self.mutate = mutate
        self.new_id = new_id
        self.stale_after_ms = stale_after_ms
        self.limits = limits
        self.connections: set[Connection] = set()
        self.draining = False

    async def serve(self, websocket: WebSocket) -> None:
        """The endpoint of `/live`."""
        offered = websocket.scope.get("subprotocols", [])
        format = Format.msgpack if MSGPACK_SUBPROTOCOL in offered else Format.json
        chosen = format.value if format.value in offered else None
        extension: Any = websocket.scope.get("extensions", {}).get(EXTENSION)
        if not isinstance(extension, Wire):
            raise RuntimeError("the live socket needs uvicorn with bonfire.sync.fanout.LiveProtocol")
        await websocket.accept(subprotocol=chosen)
        connection = Connection(self, websocket, extension, format)
        self.connections.add(connection)
        try:
            await connection.run()
        finally:
            self.connections.discard(connection)


class Connection:
    """One client. It is its engine session's key (bonfire.sync.hub.Peer)."""

    def __init__(self, live: Live, websocket: WebSocket, wire: Wire, format: Format) -> None:
        self.format = format
        self._live = live
        self._hub = live.hub
        self._websocket = websocket
        self.wire = wire
        self._principal: Principal | None = None
        self._session: Session | None = None
        self._queries: set[asyncio.Task[None]] = set()
        self._mutations: asyncio.Queue[Mutate] = asyncio.Queue(live.limits.mutations_waiting)
        self._mutator: asyncio.Task[None] | None = None
        self._unanswered: set[str] = set()
        self.kept: list[bytes] | None = None
        self._patience: asyncio.TimerHandle | None = None
        self._early: list[IndexProgress] = []
        self._following: dict[str, set[str]] = {}
        self._gone = False

    # ---- the hub's side (Peer) ------------------------------------------------------------------------------

    def buffered(self) -> int:
        return self.wire.buffered() + sum(map(len, self.kept or ()))

    def committed(self, mutation: str) -> None:
        """The next commit is this mutation. Its answer goes out before its transition, so that the client knows at
        which transition its optimistic values give way: what is written until the answer is kept until then."""
        if mutation in self._unanswered and self.kept is None:
            self.kept = []
            loop = asyncio.get_running_loop()
            self._patience = loop.call_later(self._live.limits.hold_seconds, self._let_go)

    def cut(self) -> None:
        """Let go of it without a word: it does not read, or what it was shown never was. It comes back afresh."""
        log.info("a client was cut off, to come back")
        self.wire.abort()

    def indexed(self, progress: IndexProgress) -> None:
        """An index has got on with one of this connection's mutations."""
        if progress.mutation in self._unanswered:
            self._early.append(progress)
            return
        following = self._following.get(progress.mutation)
        if following is None or progress.index not in following:
            return
        self.send(Indexed(progress.mutation, progress.index, progress.state, progress.reason))
        if progress.state in ("fresh", "failed"):
            following.discard(progress.index)
            if not following:
                self._forget(progress.mutation)

    def send(self, frame: DownFrame) -> None:
        """A frame for this connection alone."""
        self.wire.write(frame_message(encode(frame, self.format), self.format))

    # ---- life -----------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """From hello to goodbye."""
        try:
            if await self._greet():
                while True:
                    self._take(await self._receive())
        except WebSocketDisconnect:
            pass
        finally:
            self._leave()

    def _leave(self) -> None:
        self._gone = True
        if self._session is not None:
            self._hub.engine.leave(self._session)
            self._hub.pump()
        for task in self._queries:
            task.cancel()
        for mutation in list(self._following):
            self._forget(mutation)
        # A mutation under way runs to its end, so that its outcome is known when the client asks again; those that
        # still wait were never begun.
        while not self._mutations.empty():
            self._mutations.get_nowait()
        if self._mutator is not None and not self._unanswered:
            self._mutator.cancel()

    async def close(self, code: CloseCode, reason: str) -> None:
        # What was written before must leave before the close frame does.
        self.wire.flusher.flush()
        await self._websocket.close(code, reason)

    async def _receive(self) -> bytes | str:
        message = await self._websocket.receive()
        if message["type"] == "websocket.disconnect":
            raise WebSocketDisconnect(message.get("code", 1005))
        text: str | None = message.get("text")
        data: bytes | None = message.get("bytes")
        if self.format is Format.json:
            return text if text is not None else data or b""
        return data if data is not None else text or ""

    async def _greet(self) -> bool:
        """Hello and welcome; False when there is nothing more to say."""
        limits = self._live.limits
        try:
            data = await asyncio.wait_for(self._receive(), limits.hello_seconds)
            frame = decode_up(data, self.format)
        except TimeoutError:
            await self.close(CloseCode.hello_expected, "no hello came")
            return False
        except Fault as fault:
            self._refuse(fault, None)
            await self.close(CloseCode.bad_frame, "the first frame must be hello")
            return False
        if not isinstance(frame, Hello):
            self._refuse(_hello_expected(), None)
            await self.close(CloseCode.hello_expected, "the first frame must be hello")
            return False
        if frame.protocol != PROTOCOL_VERSION:
            self._refuse(_version(frame.protocol), None)
            await self.close(CloseCode.version_unsupported, f"this server speaks version {PROTOCOL_VERSION}")
            return False
        try:
            principal = self._live.authenticate(frame, self._websocket)
        except Fault as fault:
            self._refuse(fault, None)
            await self.close(CloseCode.unauthenticated, fault.code.value)
            return False
        if self._live.draining:
            await self.close(CloseCode.draining, "this server is stopping")
            return False
        seen = parse_position(frame.position) if frame.position is not None else 0
        if not await self._hub.may_serve(seen, limits.catch_up_seconds):
            # A client must not be shown an older state than the one it has seen elsewhere.
            await self.close(CloseCode.overloaded, "this server is behind what was shown elsewhere")
            return False
        self._principal = principal
        position = format_position(self._hub.engine.position)
        self.send(
            Welcome(
                PROTOCOL_VERSION,
                self._live.new_id(),
                principal.tenant,
                principal.user,
                position,
                self._live.stale_after_ms,
                self._hub.source.kind,
                self._hub.source.stream,
            )
        )
        resumes = seen and frame.stream == self._hub.source.stream
        self._session = self._hub.join(self, principal.tenant, principal.access, since=seen if resumes else None)
        self._hub.pump()
        return True

    # ---- frames ---------------------------------------------------------------------------------------------

    def _take(self, data: bytes | str) -> None:
        try:
            frame = decode_up(data, self.format)
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
        self._hub.pump()

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
                if self._mutations.full():
                    raise _too_many("mutations waiting", limits.mutations_waiting)
                self._mutations.put_nowait(frame)
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
            answer, position = await self._hub.read_once(self._principal.tenant, query_plan)
            if isinstance(answer, Fault):
                raise answer
            value = _value(answer, one=getattr(query_plan, "shape", "list") == "one")
            self.send(Result(frame.id, format_position(position), value))
        except Fault as fault:
            self._refuse(fault, frame.id)
        except Exception as error:
            log.exception("query %s failed", frame.query)
            self._refuse(_internal(error), frame.id)

    async def _mutate_in_order(self) -> None:
        while True:
            frame = await self._mutations.get()
            self._unanswered.add(frame.id)
            try:
                await self._mutate(frame)
            except Fault as fault:
                self._refuse(fault, frame.id)
            except Exception as error:
                log.exception("mutation %s failed", frame.mutation)
                self._refuse(_internal(error), frame.id)
            finally:
                self._unanswered.discard(frame.id)
                self._let_go()
                early, self._early = self._early, []
                for progress in early:
                    self.indexed(progress)
                if self._gone or frame.id not in self._following:
                    self._forget(frame.id)
            if self._gone:
                return

    async def _mutate(self, frame: Mutate) -> None:
        assert self._principal is not None
        assert self._session is not None
        self._hub.expect_index(self._principal.tenant, frame.id, self)
        outcome = await self._live.mutate(self._principal, frame)
        position = await self._hub.position_of(outcome.xid, new=not outcome.replayed)
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
        if position > self._session.position:
            # It holds nothing that this write touched: say that what it holds is true there too.
            self._hub.engine.confirm(self._session)
            self._hub.pump()

    def _let_go(self) -> None:
        if self._patience is not None:
            self._patience.cancel()
            self._patience = None
        kept, self.kept = self.kept, None
        for framed in kept or ():
            self.wire.write(framed)

    def _forget(self, mutation: str) -> None:
        self._following.pop(mutation, None)
        if self._principal is not None:
            self._hub.forget_index(self._principal.tenant, mutation, self)

    def _refuse(self, fault: Fault, frame_id: str | None) -> None:
        self.send(Refused(fault.code, fault.message, fault.next, frame_id, fault.field, fault.expected, fault.got))


def _states(indexes: Mapping[str, str]) -> dict[str, IndexState]:
    return msgspec.convert(indexes, dict[str, IndexState])


def _id_of(data: bytes | str) -> str | None:
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


def _internal(error: Exception) -> Fault:
    return Fault(FaultCode.internal, f"the server failed at this ({type(error).__name__}); it is in its log")
