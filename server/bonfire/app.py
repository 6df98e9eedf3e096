"""The composition root: the only place where a node's parts are made and put together."""

import asyncio
import logging
import os
import random
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from socket import socket
from urllib.parse import urlsplit
from uuid import uuid4

import uvicorn
from starlette.applications import Starlette
from starlette.requests import HTTPConnection

from bonfire.access.audit import Trail
from bonfire.access.audit_keeper import AuditKeeper
from bonfire.access.claims import ClaimNames, Rules
from bonfire.access.expiry import end_relations
from bonfire.access.gate import Access, Gate
from bonfire.access.identity import Identifier, Provider
from bonfire.access.keys import HttpFetch, KeySet
from bonfire.access.limiter import Limiter
from bonfire.access.minting import read_development_key
from bonfire.access.origins import Origins, Proxies
from bonfire.access.policies import PolicyBook
from bonfire.changes.choose import choose_source, follow_replica
from bonfire.changes.source import ChangeSource, bound_sql
from bonfire.changes.timing import Timing
from bonfire.clinical.execute import Outcome, mutate
from bonfire.clinical.fingerprint import fingerprint
from bonfire.clinical.registry import Registry
from bonfire.config import Settings
from bonfire.insight.indexes import Indexes
from bonfire.lane.worker import Worker
from bonfire.listening import listener, room_for_connections
from bonfire.node_metrics import MetricsPage, NodeMetrics
from bonfire.readiness import readiness
from bonfire.store.pool import Database, DatabaseUnusable
from bonfire.sync.admission import Admission, regate
from bonfire.sync.door import Door
from bonfire.sync.endpoint import Limits, Live
from bonfire.sync.hub import Hub
from bonfire.sync.reader import Reader
from bonfire.sync.replica import ReplicaReader
from bonfire.sync.websocket import LiveProtocol, check_uvicorn, http_for
from bonfire.telemetry.loop import LoopWatch
from bonfire.telemetry.siblings import Siblings
from bonfire.telemetry.tracing import open_tracing
from bonfire.telemetry.watch import MutationWatch
from bonfire.web.audit import audit_routes
from bonfire.web.fhir import fhir_routes
from bonfire.web.health import health_routes
from bonfire.web.pages import page_routes
from bonfire.web.security import edge, identity_of
from bonfire_protocol.faults import Fault
from bonfire_protocol.up import Mutate

log = logging.getLogger("bonfire")


@dataclass(frozen=True)
class Node:
    """A running node, short of its listening socket."""

    app: Starlette
    hub: Hub
    live: Live


@asynccontextmanager
async def start_node(
    settings: Settings, *, url: str, registry: Registry, development: bool, app_folder: Path | None
) -> AsyncIterator[Node]:
    """A node on a migrated database. `development`: nobody needs a token. Raises what keeps it from starting."""
    check_uvicorn()
    async with AsyncExitStack() as stack:
        database = await Database.connect(url, max_size=settings.pool_size)
        stack.push_async_callback(database.close)
        databases = {"postgres": database}
        tracing = open_tracing(settings.otlp_endpoint, os.environ, settings.worker)
        if tracing is not None:
            stack.push_async_callback(asyncio.to_thread, tracing.close)
        indexes = await _indexes(settings, database)
        worker = Worker(database, indexes.handlers, _now, random=random.Random(), new_lease=uuid4)
        # Twice as often as the clients are told, so that each of their heartbeats finds a word of the stream's.
        timing = Timing(heartbeat=settings.heartbeat_ms / 2000)
        source: ChangeSource
        if settings.read_url is None:
            source = await choose_source(settings.change_source, url=url, timing=timing)
            reader = Reader(database, bound_sql(source.kind), _now)
        else:
            source = follow_replica(settings.change_source, read_url=settings.read_url, url=url, timing=timing)
            replica = await _replica(settings.read_url, settings.pool_size)
            stack.push_async_callback(replica.close)
            databases["replica"] = replica
            reader = ReplicaReader(replica, database, source, _now)
        trail = Trail(database)
        stack.push_async_callback(trail.close)
        admission = Admission(Gate(PolicyBook()), database)
        hub = Hub(
            source,
            reader,
            heartbeat=settings.heartbeat_ms / 1000,
            check_every=settings.self_check_seconds,
            wake_lanes=worker.wake,
            lane_sources=indexes.sources,
            admission=admission,
            tracing=tracing,
        )
        await hub.start()
        stack.push_async_callback(hub.stop)
        working = asyncio.create_task(worker.run())
        working.add_done_callback(_tell_of_failure)
        stack.push_async_callback(_end, worker, working)
        keeper = AuditKeeper(database)
        keepers = [asyncio.create_task(keeper.run()), asyncio.create_task(end_relations(database))]
        stack.push_async_callback(_cancel, keepers)
        identifier = await stack.enter_async_context(_identifier(settings, development))
        origins = Origins(settings.origins, development=development)
        proxies = Proxies(settings.trusted_proxies)
        limiter = Limiter(
            time.monotonic,
            caller_rate=settings.caller_requests,
            tenant_rate=settings.tenant_requests,
            failures_per_minute=settings.failed_tokens,
        )
        watch = MutationWatch(tracing)
        functions = frozenset(mutation.name for mutation in registry.mutations)

        async def run_mutation(access: Access, frame: Mutate, address: str | None) -> Outcome:
            function = frame.mutation if frame.mutation in functions else "unknown"
            with watch.mutation(access.principal.tenant, frame.id, function) as watched:
                done = await mutate(
                    database,
                    registry,
                    access,
                    regate(admission, access.principal),
                    trail,
                    id=frame.id,
                    mutation=frame.mutation,
                    args=bytes(frame.args),
                    patient=frame.patient,
                    version=frame.version,
                    clock=_now,
                    new_id=_new_id,
                    indexes=indexes.states,
                    trace=watched.trace,
                    address=address,
                )
                watched.outcome = "replayed" if done.replayed else "committed"
                return done

        async def admit(request: HTTPConnection) -> Access:
            return await admission.admit(identity_of(request.scope))

        live = Live(
            hub,
            registry,
            Door(identifier, origins, limiter, proxies),
            admission,
            trail,
            run_mutation,
            _new_id,
            _now,
            functions=fingerprint(registry),
            stale_after_ms=settings.stale_after_ms,
            compress=settings.compression == "on",
            limits=Limits(connections=_connections(settings.max_connections, development)),
        )
        live.start()
        stack.push_async_callback(live.stop)
        loop = LoopWatch()
        loop.start()
        stack.push_async_callback(loop.stop)
        checks = readiness(databases, hub, live, working, stale_after=settings.stale_after_ms / 1000)
        metrics = NodeMetrics(hub, live, databases, checks, watch.counts, loop, trail, keeper, admission)
        siblings: Siblings | None = None
        if settings.worker is not None and settings.workers_dir is not None:
            siblings = Siblings(settings.workers_dir, settings.worker, settings.workers, metrics.families)
            await siblings.start()
            stack.push_async_callback(siblings.stop)
        page = MetricsPage(metrics, siblings, database)
        app = Starlette(
            routes=[
                *health_routes(checks, page, worker=settings.worker),
                *audit_routes(database, admit, trail),
                *fhir_routes(database, admit, trail, _now),
                *page_routes(app_folder, connect=_fetched_from(settings)),
            ],
            middleware=edge(
                api=("/fhir",),
                identifier=identifier,
                limiter=limiter,
                origins=origins,
                proxies=proxies,
                hsts_seconds=settings.hsts_seconds,
            ),
        )
        yield Node(app, hub, live)


async def _cancel(tasks: Sequence["asyncio.Task[None]"]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


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


class Server(uvicorn.Server):
    """uvicorn, which drains the node's clients before it closes their sockets. `on_ready` is called once it listens."""

    def __init__(self, node: Node, *, host: str, port: int, on_ready: Callable[[str], None]) -> None:
        config = uvicorn.Config(
            node.app,
            host=host,
            port=port,
            http=http_for(node.live),
            ws=LiveProtocol,
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            # By itself, uvicorn believes whoever is on this machine: see BONFIRE_TRUSTED_PROXIES.
            proxy_headers=False,
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
        await super().startup(sockets or [listener(self.config.host, self.config.port)])
        if self.started:
            host, port = self.servers[0].sockets[0].getsockname()[:2]
            self._on_ready(f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}")

    async def shutdown(self, sockets: list[socket] | None = None) -> None:
        if sockets:
            # They were handed over: whoever comes now waits there for the process that is next.
            for server in self.servers:
                server.close()
        await self._node.live.drain()
        await super().shutdown(sockets)


def _connections(wanted: int, development: bool) -> int:
    room = room_for_connections(wanted)
    if room < wanted:
        # A developer's machine has room enough for a developer.
        log.log(
            logging.INFO if development else logging.WARNING,
            "the limit on open files (ulimit -n) has room for %d live connections, not for the %d of "
            "BONFIRE_MAX_CONNECTIONS: more than that are refused",
            room,
            wanted,
        )
    return room


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


async def _replica(url: str, pool_size: int) -> Database:
    try:
        return await Database.connect(url, max_size=pool_size)
    except Fault as fault:
        raise Fault(
            fault.code, "The replica can't be reached: see that it runs, and that BONFIRE_READ_URL names it."
        ) from fault
    except DatabaseUnusable as error:
        raise DatabaseUnusable(f"BONFIRE_READ_URL: {error}") from error


async def _end(worker: Worker, working: "asyncio.Task[None]") -> None:
    worker.stop()
    # Whoever waits for the end of a failed worker wants the rest to end too.
    await asyncio.gather(working, return_exceptions=True)


def _tell_of_failure(working: "asyncio.Task[None]") -> None:
    """A worker that fails says so when it does, not when the process ends."""
    if not working.cancelled() and (error := working.exception()) is not None:
        log.error("the lane's worker failed: indexes stay pending", exc_info=error)


@asynccontextmanager
async def _identifier(settings: Settings, development: bool) -> AsyncIterator[Identifier]:
    """Who tells callers by the tokens that `settings` trust; in development, by the data folder's key too."""
    fetch: HttpFetch | None = None
    provider: Provider | None = None
    if settings.oidc_issuer is not None and settings.oidc_audience is not None:
        names = ClaimNames(
            tenant=settings.claim_tenant,
            user=settings.claim_user,
            name=settings.claim_name,
            roles=settings.claim_roles,
            kind=settings.claim_kind,
            patient=settings.claim_patient,
            purpose=settings.claim_purpose,
            scope=settings.claim_scope,
            behalf_of=settings.claim_behalf_of,
        )
        rules = Rules(settings.oidc_issuer, settings.oidc_audience, names, settings.token_leeway_seconds)
        fetch = HttpFetch()
        keys = KeySet(settings.oidc_issuer, settings.oidc_jwks_url, fetch, time.monotonic)
        provider = Provider(rules, keys)
    identifier = Identifier(
        _now,
        provider=provider,
        shared_keys=settings.token_keys,
        development_key=(lambda: read_development_key(settings.data_dir)) if development else None,
        leeway=settings.token_leeway_seconds,
    )
    try:
        yield identifier
    finally:
        await identifier.close()
        if fetch is not None:
            await fetch.close()


def _fetched_from(settings: Settings) -> frozenset[str]:
    """The origins that the app's pages may fetch from, besides our own."""
    if settings.oidc_issuer is None:
        return settings.pages_connect
    parts = urlsplit(settings.oidc_issuer)
    return settings.pages_connect | {f"{parts.scheme}://{parts.netloc}"}
