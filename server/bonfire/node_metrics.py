"""A node's metrics: what its parts count, under the names that operators read. `docs/metrics.md` says what each means.

No label comes from a client: functions are the registry's, indexes, outcomes and checks the server's own.
"""

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import version

import asyncpg
from prometheus_client import ProcessCollector
from prometheus_client.core import Metric

from bonfire.access.audit import Trail
from bonfire.access.audit_keeper import AuditKeeper
from bonfire.lane.backlog import backlog
from bonfire.store.pool import Database
from bonfire.sync.admission import Admission
from bonfire.sync.endpoint import Live
from bonfire.sync.hub import Hub
from bonfire.telemetry.families import (
    Family,
    collect,
    counter,
    counters,
    encode_page,
    gauge,
    gauges,
    histogram,
    histograms,
)
from bonfire.telemetry.loop import LoopWatch
from bonfire.telemetry.metrics import Mutations
from bonfire.telemetry.siblings import Siblings
from bonfire.web.health import Check, run_checks
from bonfire_protocol.faults import Fault

PATIENCE = 2.0
"""Seconds that the database may take to count its jobs; then the page comes without them."""


class NodeMetrics:
    """The numbers of this process. `databases` are the pools, by name."""

    def __init__(
        self,
        hub: Hub,
        live: Live,
        databases: Mapping[str, Database],
        checks: Mapping[str, Check],
        mutations: Mutations,
        loop: LoopWatch,
        trail: Trail,
        keeper: AuditKeeper,
        admission: Admission,
    ) -> None:
        self._hub = hub
        self._live = live
        self._databases = databases
        self._checks = checks
        self._mutations = mutations
        self._loop = loop
        self._trail = trail
        self._keeper = keeper
        self._admission = admission
        self._process = ProcessCollector(registry=None)

    async def families(self) -> list[Family]:
        found = await run_checks(self._checks)
        ready = [((name,), float(reason is None)) for name, reason in found.items()]
        # It lists every open socket: not on the event loop's thread.
        process = await asyncio.to_thread(lambda: collect(self._process.collect()))
        metrics = [
            gauge("bonfire_ready", "1 when this process can serve, as /readyz says.", min(value for _, value in ready)),
            gauges("bonfire_check", "1 when this check of /readyz finds nothing wrong.", ["check"], ready),
            *self._clients(),
            *self._queries(),
            *self._stream(),
            *self._work(),
            *self._access(),
        ]
        return [*collect(metrics), *process]

    def _clients(self) -> Iterator[Metric]:
        live, sent = self._live, self._hub.flusher.sent
        yield gauge("bonfire_connections", "Open live sockets.", len(live.connections))
        yield counter("bonfire_refused_connections_total", "Sockets refused: the limit was reached.", live.refused)
        yield counters(
            "bonfire_refused_frames_total",
            "Frames of clients that were refused, by the code of the fault.",
            ["code"],
            [((code,), count) for code, count in live.refusals.items()],
        )
        yield counter("bonfire_slow_consumers_total", "Sockets cut because nobody read.", self._hub.cut_off)
        yield counter("bonfire_received_frames_total", "Frames from clients.", live.received.frames)
        yield counter("bonfire_received_bytes_total", "Their bytes, as messages.", live.received.bytes)
        yield counter("bonfire_sent_frames_total", "Frames to clients.", sent.frames)
        yield counter("bonfire_sent_bytes_total", "Their bytes, as sent.", sent.bytes)

    def _queries(self) -> Iterator[Metric]:
        engine = self._hub.engine
        counts = engine.counts
        held = sum(len(session.subscriptions) for session in engine.sessions())
        yield gauge("bonfire_live_queries", "Distinct live queries.", counts["live_queries"])
        yield gauge("bonfire_subscriptions", "Subscriptions of all clients to them.", held)
        yield gauge("bonfire_reads", "Reads of live queries that are under way.", self._hub.reads)
        yield gauge("bonfire_reads_owed", "Live queries that wait to be read.", counts["reads_owed"])
        yield histogram("bonfire_read_seconds", "How long a read takes the database.", self._hub.read_seconds)
        yield histogram(
            "bonfire_commit_to_reread_seconds",
            "From a commit to the result of a query that had to be run again because of it.",
            self._hub.watch.commit_to_reread,
        )
        yield counter("bonfire_resumes_total", "Subscriptions told only what they had missed.", counts["resumes"])
        yield counter(
            "bonfire_conflations_total", "Times a slow client got the newest, not all.", counts["conflations"]
        )
        yield counter("bonfire_self_checks_total", "Live queries compared with their source.", engine.checks.done)
        yield counter(
            "bonfire_self_check_differences_total",
            "Those that were not what their source says.",
            engine.checks.differences,
        )

    def _stream(self) -> Iterator[Metric]:
        hub = self._hub
        counts = hub.engine.counts
        yield gauge("bonfire_change_stream_up", "1 while commits come in.", float(not hub.engine.is_down))
        yield gauge("bonfire_position", "Place in the commit order that is reached.", hub.engine.position)
        yield gauge("bonfire_watermark_age_seconds", "Since the stream last kept up.", hub.watermark_age)
        lag = hub.source.lag
        if lag is not None:
            yield gauge("bonfire_replication_lag_bytes", "WAL that the stream is behind by.", lag.size)
            yield gauge("bonfire_replication_lag_seconds", "For how long it has been behind.", lag.seconds)
        yield counter("bonfire_commits_total", "Commits taken in.", hub.commits)
        yield counter("bonfire_resyncs_total", "Times that everything had to be read afresh.", hub.gaps)
        yield histogram(
            "bonfire_commit_to_send_seconds",
            "From a commit to when the last socket had been given its frames.",
            hub.flusher.commit_to_send,
        )
        yield gauge(
            "bonfire_recent_commits", "Commits kept for reads that may have missed them.", counts["recent_commits"]
        )
        yield gauge("bonfire_retained_changes", "Changes kept for clients that come back.", counts["retained_changes"])

    def _work(self) -> Iterator[Metric]:
        mutations = self._mutations
        yield counters(
            "bonfire_mutations_total",
            "Mutations by function, and by what became of them.",
            ["mutation", "outcome"],
            mutations.outcomes.items(),
        )
        yield histograms(
            "bonfire_mutation_seconds",
            "How long a mutation takes, up to its commit.",
            ["mutation"],
            [((function,), measured) for function, measured in mutations.seconds.items()],
        )
        pools = {name: database.use for name, database in self._databases.items()}
        yield gauges(
            "bonfire_pool_connections",
            "Connections to the database.",
            ["pool", "state"],
            [
                ((name, state), value)
                for name, use in pools.items()
                for state, value in (("busy", use.busy), ("idle", use.idle))
            ],
        )
        yield gauges(
            "bonfire_pool_limit",
            "How many of them there may be.",
            ["pool"],
            [((name,), use.most) for name, use in pools.items()],
        )
        yield histogram("bonfire_loop_lag_seconds", "How late a timer of the event loop came.", self._loop.late)
        yield gauges("bonfire_build_info", "1, with this server's version.", ["version"], [((version("bonfire"),), 1)])

    def _access(self) -> Iterator[Metric]:
        use, keeper, admission = self._trail.use, self._keeper, self._admission
        yield counter("bonfire_audit_recorded_total", "Events of the trail that are on disk.", use.recorded)
        yield counter("bonfire_audit_batches_total", "The transactions that wrote them.", use.batches)
        yield counter("bonfire_audit_failed_total", "Attempts to write a batch that failed.", use.failed)
        yield counter("bonfire_audit_lost_total", "Events that could not be kept.", use.lost)
        yield gauge("bonfire_audit_pending", "Events that wait to be written.", self._trail.pending)
        yield counter("bonfire_audit_sealed_total", "Rows of the trail that this node has sealed.", keeper.sealed)
        yield gauge("bonfire_audit_keeper_failing", "1 when the last pass of the sealer failed.", float(keeper.failing))
        yield counters(
            "bonfire_denied_total",
            "What the gate has refused, by where it was asked.",
            ["surface"],
            [((surface,), count) for surface, count in use.denied.items()],
        )
        yield gauge("bonfire_doubted_users", "Users whose rights are being read again.", admission.doubted)
        yield counter("bonfire_regrants_total", "Clients that were told anew what they may see.", admission.regrants)
        yield counter("bonfire_facts_reads_total", "Reads of what callers may see.", admission.reads)


class MetricsPage:
    """The whole page: this process' families, those of its siblings, and what is the same for all: the database's jobs.
    `database` is where they are."""

    def __init__(self, node: NodeMetrics, siblings: Siblings | None, database: Database) -> None:
        self._node = node
        self._siblings = siblings
        self._database = database

    async def __call__(self, accept: str) -> tuple[bytes, str]:
        jobs = await self._jobs()
        if self._siblings is None:
            return await _encoded(jobs, {"": await self._node.families()}, accept)
        pages = await self._siblings.pages()
        up = [((str(number),), float(page is not None)) for number, page in pages.items()]
        workers = gauges("bonfire_worker_up", "1 when this process answers the others.", ["worker"], up)
        answered = {str(number): page for number, page in pages.items() if page is not None}
        return await _encoded([*collect([workers]), *jobs], answered, accept)

    async def _jobs(self) -> Sequence[Family]:
        try:
            async with asyncio.timeout(PATIENCE), self._database.owner() as conn:
                found = await backlog(conn)
        except (Fault, TimeoutError, asyncpg.PostgresError):
            # The checks tell that the database is away; the other numbers are wanted then all the more.
            return []
        return collect(
            [
                gauges(
                    "bonfire_jobs",
                    "Jobs of the lanes, by index.",
                    ["index", "state"],
                    [
                        ((one.index, state), count)
                        for one in found
                        for state, count in (("waiting", one.waiting), ("running", one.running), ("failed", one.failed))
                    ],
                ),
                gauges(
                    "bonfire_oldest_job_seconds",
                    "How long ago the oldest job that is still to be done was asked for.",
                    ["index"],
                    [((one.index,), one.oldest or 0.0) for one in found],
                ),
            ]
        )


async def _encoded(shared: Sequence[Family], workers: Mapping[str, Sequence[Family]], accept: str) -> tuple[bytes, str]:
    # Some 3 ms for each process: not on the event loop's thread.
    return await asyncio.to_thread(encode_page, shared, workers, accept)
