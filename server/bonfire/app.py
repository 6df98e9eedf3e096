"""The composition root: the only place where a node's parts are made and put together."""

import asyncio
import logging
import random
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from errno import EADDRINUSE
from pathlib import Path
from socket import SOCK_STREAM, create_server, getaddrinfo, socket
from uuid import uuid4

import uvicorn
from starlette.applications import Starlette
from starlette.requests import HTTPConnection
from starlette.routing import WebSocketRoute
from starlette.websockets import WebSocket

from bonfire.access.identity import authenticate, development_principal
from bonfire.access.principal import Principal
from bonfire.changes.choose import choose_source
from bonfire.changes.source import bound_sql
from bonfire.changes.timing import Timing
from bonfire.clinical.execute import Outcome, mutate
from bonfire.clinical.registry import Registry
from bonfire.config import Settings
from bonfire.insight.indexes import Indexes
from bonfire.lane.worker import Worker
from bonfire.store.pool import Database
from bonfire.sync.fanout import LiveProtocol, check_uvicorn
from bonfire.sync.hub import Hub
from bonfire.sync.reader import Reader
from bonfire.sync.socket import Limits, Live
from bonfire.web.fhir import fhir_routes
from bonfire.web.health import Check, health_routes
from bonfire.web.pages import page_routes
from bonfire_protocol.down import Drain
from bonfire_protocol.faults import CloseCode, Fault, FaultCode
from bonfire_protocol.up import Hello, Mutate

log = logging.getLogger("bonfire")

MAX_FRAME_BYTES = 1024 * 1024
DRAIN_SECONDS = 1.0


@dataclass(frozen=True)
class Node:
    """A running node, short of its listening socket."""

    app: Starlette
    hub: Hub
    live: Live

    async def drain(self) -> None:
        """Ask all clients to come back later, to any node; each is given a moment to read it."""
        self.live.draining = True
        spread = int(1000 * max(DRAIN_SECONDS, len(self.live.connections) / 500))
        for connection in list(self.live.connections):
            connection.send(Drain(spread))
        await asyncio.sleep(0.05)
        closing = {
            asyncio.create_task(connection.close(CloseCode.draining, "this server is stopping"))
            for connection in list(self.live.connections)
        }
        if closing:
            # A peer that does not read never takes its close frame either.
            _, stuck = await asyncio.wait(closing, timeout=DRAIN_SECONDS)
            for task in stuck:
                task.cancel()
            await asyncio.gather(*closing, return_exceptions=True)
        for connection in list(self.live.connections):
            if connection.buffered():
                connection.cut()


@asynccontextmanager
async def start_node(
    settings: Settings, *, url: str, registry: Registry, development: bool, app_folder: Path | None
) -> AsyncIterator[Node]:
    """A node on a migrated database. `development`: nobody needs a token. Raises what keeps it from starting."""
    check_uvicorn()
    async with AsyncExitStack() as stack:
        database = await Database.connect(url, max_size=settings.pool_size)
        stack.push_async_callback(database.close)
        indexes = await _indexes(settings, database)
        worker = Worker(database, indexes.handlers, _now, random=random.Random(), new_lease=uuid4)
        # Twice as often as the clients are told, so that each of their heartbeats finds a word of the stream's.
        source = await choose_source(
            settings.change_source, url=url, timing=Timing(heartbeat=settings.heartbeat_ms / 2000)
        )
        reader = Reader(database, bound_sql(source.kind), _now)
        hub = Hub(
            source,
            reader,
            heartbeat=settings.heartbeat_ms / 1000,
            wake_lanes=worker.wake,
            lane_sources=indexes.sources,
        )
        await hub.start()
        stack.push_async_callback(hub.stop)
        working = asyncio.create_task(worker.run())
        working.add_done_callback(_tell_of_failure)
        stack.push_async_callback(_end, worker, working)
        identify = _identifier(settings, development)

        async def run_mutation(principal: Principal, frame: Mutate) -> Outcome:
            return await mutate(
                database,
                registry,
                principal,
                id=frame.id,
                mutation=frame.mutation,
                args=bytes(frame.args),
                patient=frame.patient,
                version=frame.version,
                clock=_now,
                new_id=_new_id,
                indexes=indexes.states,
            )

        def authenticate_hello(hello: Hello, websocket: WebSocket) -> Principal:
            _check_origin(websocket)
            return identify(hello.token, hello.tenant)

        def authenticate_http(request: HTTPConnection) -> Principal:
            scheme, _, token = request.headers.get("authorization", "").partition(" ")
            bearer = token.strip() if scheme.lower() == "bearer" else None
            return identify(bearer, request.headers.get("x-bonfire-tenant"))

        live = Live(
            hub,
            registry,
            authenticate_hello,
            run_mutation,
            _new_id,
            stale_after_ms=settings.stale_after_ms,
            limits=Limits(),
        )
        app = Starlette(
            routes=[
                WebSocketRoute("/live", live.serve),
                *health_routes(_checks(database, hub, live, working), lambda: _gauges(hub, live)),
                *fhir_routes(database, authenticate_http, _now),
                *page_routes(app_folder),
            ]
        )
        yield Node(app, hub, live)


async def run_worker(settings: Settings, url: str, until: Callable[[], Awaitable[None]]) -> None:
    """A worker without a server, until `until` returns."""
    database = await Database.connect(url, max_size=settings.pool_size)
    try:
        indexes = await _indexes(settings, database)
        worker = Worker(database, indexes.handlers, _now, random=random.Random(), new_lease=uuid4)
        working = asyncio.create_task(worker.run())
        working.add_done_callback(_tell_of_failure)
        await until()
        await _end(worker, working)
    finally:
        await database.close()


class CannotListen(Exception):
    """The address can't be listened on; the message says why."""


class Server(uvicorn.Server):
    """uvicorn, which drains the node's clients before it closes their sockets. `on_ready` is called once it listens."""

    def __init__(self, node: Node, *, host: str, port: int, on_ready: Callable[[str], None]) -> None:
        config = uvicorn.Config(
            node.app,
            host=host,
            port=port,
            ws=LiveProtocol,
            ws_max_size=MAX_FRAME_BYTES,
            ws_per_message_deflate=False,
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=5,
        )
        super().__init__(config)
        self._node = node
        self._on_ready = on_ready

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        # uvicorn raises the signal again once it has stopped, which would end the process before what is around the
        # server (the embedded Postgres) is stopped too.
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self.handle_exit, number, None)
        try:
            yield
        finally:
            for number in (signal.SIGINT, signal.SIGTERM):
                loop.remove_signal_handler(number)

    async def startup(self, sockets: list[socket] | None = None) -> None:
        # uvicorn's own binding logs what is wrong, and ends the process.
        await super().startup(sockets or [_listener(self.config.host, self.config.port)])
        if self.started:
            host, port = self.servers[0].sockets[0].getsockname()[:2]
            self._on_ready(f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}")

    async def shutdown(self, sockets: list[socket] | None = None) -> None:
        await self._node.drain()
        await super().shutdown(sockets)


def _listener(host: str, port: int) -> socket:
    try:
        family = getaddrinfo(host, port, type=SOCK_STREAM)[0][0]
        return create_server((host, port), family=family, backlog=2048)
    except OSError as error:
        if error.errno == EADDRINUSE:
            why = "something listens there already: stop it, or choose another port with --port"
        else:
            why = error.strerror or type(error).__name__
        raise CannotListen(f"can't listen on {host}, port {port}: {why}") from error


def _now() -> datetime:
    return datetime.now(UTC)


def _new_id() -> str:
    return str(uuid4())


async def _indexes(settings: Settings, database: Database) -> Indexes:
    return await Indexes.switch(
        database,
        agent_context=settings.agent_context == "on",
        embeddings=settings.embeddings,
        dimensions=settings.embedding_dimensions,
    )


async def _end(worker: Worker, working: "asyncio.Task[None]") -> None:
    worker.stop()
    # Whoever waits for the end of a failed worker wants the rest to end too.
    await asyncio.gather(working, return_exceptions=True)


def _tell_of_failure(working: "asyncio.Task[None]") -> None:
    """A worker that fails says so when it does, not when the process ends."""
    if not working.cancelled() and (error := working.exception()) is not None:
        log.error("the lane's worker failed: indexes stay pending", exc_info=error)


def _identifier(settings: Settings, development: bool) -> Callable[[str | None, str | None], Principal]:
    """How a caller is told: (token, tenant asked for) -> Principal."""

    def identify(token: str | None, tenant: str | None) -> Principal:
        if token is None and development:
            return development_principal(tenant)
        if token is None or settings.token_key is None:
            raise Fault(FaultCode.unauthenticated, "a token is needed here", field="token", expected="a bearer token")
        principal = authenticate(token, settings.token_key, _now())
        if tenant is not None and tenant != principal.tenant:
            raise Fault(
                FaultCode.forbidden, "the token is for another tenant", field="tenant", expected="the token's tenant"
            )
        return principal

    return identify


def _check_origin(websocket: WebSocket) -> None:
    """A browser names the page that opens a socket, and lets any page open one to anywhere: only our own may."""
    origin = websocket.headers.get("origin")
    if origin is None:
        return
    host = origin.partition("://")[2]
    if host != websocket.headers.get("host"):
        raise Fault(
            FaultCode.forbidden,
            "pages of another origin may not open this socket",
            field="Origin",
            expected="the origin of this server",
        )


def _checks(database: Database, hub: Hub, live: Live, working: "asyncio.Task[None]") -> Mapping[str, Check]:
    async def postgres() -> str | None:
        try:
            async with asyncio.timeout(2), database.owner() as conn:
                await conn.fetchval("select 1")
        except (Fault, TimeoutError):
            return "the database does not answer"
        return None

    async def changes() -> str | None:
        return "the change stream is cut" if hub.engine.is_down else None

    async def internals() -> str | None:
        failing = [*hub.failing, *(["worker"] if working.done() else [])]
        return f"failing, see the log: {', '.join(failing)}" if failing else None

    async def serving() -> str | None:
        return "this server is stopping" if live.draining else None

    return {"postgres": postgres, "changes": changes, "internals": internals, "serving": serving}


def _gauges(hub: Hub, live: Live) -> Mapping[str, tuple[str, float]]:
    counts = hub.engine.counts
    return {
        "connections": ("Open sockets.", len(live.connections)),
        "live_queries": ("Distinct live queries.", counts["live_queries"]),
        "reads_owed": ("Live queries that wait to be read.", counts["reads_owed"]),
        "recent_commits": ("Commits kept because a read might miss them.", counts["recent_commits"]),
        "position": ("Position in the commit order that this node has reached.", hub.engine.position),
        "change_stream_up": ("1 while the change stream is live.", 0 if hub.engine.is_down else 1),
        "commits_total": ("Commits taken in.", hub.commits),
        "gaps_total": ("Times that everything had to be read afresh.", hub.gaps),
        "slow_consumers_total": ("Connections cut because they did not read.", hub.cut_off),
    }
