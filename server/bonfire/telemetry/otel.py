"""Traces by OpenTelemetry. Needs the extra `otel`.

The node has a provider of its own: nothing is registered for the whole process, and nobody else's instrumentation is
fed by it, which might put statements or arguments into spans.
"""

from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from hashlib import sha256
from importlib.metadata import version
from threading import Timer

from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import SERVICE_INSTANCE_ID, SERVICE_NAME, SERVICE_VERSION, Resource
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from opentelemetry.sdk.trace.sampling import Decision
from opentelemetry.trace import (
    Link,
    NonRecordingSpan,
    Span,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    TraceFlags,
    Tracer,
    set_span_in_context,
)

CLOSE_SECONDS = 3.0
"""How long an end waits for the last spans to be taken."""

REMEMBERED = 4096
"""Commits that a read may still come of."""


def exporting(endpoint: str | None, worker: int | None) -> "OtelTracing":
    """Spans go to the collector at `endpoint`; without one, where OpenTelemetry's own settings say."""
    exporter = OTLPSpanExporter(None if endpoint is None else f"{endpoint.rstrip('/')}/v1/traces")
    return OtelTracing(BatchSpanProcessor(exporter), worker, give_up=exporter.shutdown)


class OtelTracing:
    """bonfire.telemetry.tracing.Tracing. Ended spans go to `processor`. Name, resource and sampling follow the standard
    variables (OTEL_SERVICE_NAME, OTEL_RESOURCE_ATTRIBUTES, OTEL_TRACES_SAMPLER). `give_up` ends what still tries to
    reach a collector."""

    def __init__(
        self, processor: SpanProcessor, worker: int | None, *, give_up: Callable[[], None] = lambda: None
    ) -> None:
        self._give_up = give_up
        known: dict[str, str] = {SERVICE_VERSION: version("bonfire")}
        if worker is not None:
            known[SERVICE_INSTANCE_ID] = str(worker)
        resource = Resource.create(known)
        if str(resource.attributes[SERVICE_NAME]).startswith("unknown_service"):
            resource = resource.merge(Resource({SERVICE_NAME: "bonfire"}))
        self._ids = _Ids()
        self._commits: OrderedDict[int, SpanContext] = OrderedDict()
        self._provider = TracerProvider(resource=resource, id_generator=self._ids, shutdown_on_exit=False)
        self._provider.add_span_processor(processor)
        self._tracer = self._provider.get_tracer("bonfire")

    def mutation(self, tenant: str, id: str, function: str) -> "OtelMutation":
        trace_id, commit_id = _derived(tenant, id)
        self._ids.next_trace = trace_id
        span = self._tracer.start_span(
            f"mutation {function}",
            Context(),
            SpanKind.SERVER,
            {"bonfire.mutation": function, "bonfire.tenant": tenant},
            record_exception=False,
        )
        self._ids.next_trace = None
        return OtelMutation(self._tracer, self._ids, span, commit_id)

    def fan_out(self, tenant: str, id: str, *, position: int, xid: int) -> "OtelSending":
        trace_id, commit_id = _derived(tenant, id)
        # Whether it is sampled is for the sampler to say, which does so by the trace's id: alike on every node.
        decision = self._provider.sampler.should_sample(Context(), trace_id, "fan-out").decision
        flags = TraceFlags(TraceFlags.SAMPLED if decision is Decision.RECORD_AND_SAMPLE else TraceFlags.DEFAULT)
        commit = SpanContext(trace_id, commit_id, is_remote=True, trace_flags=flags)
        self._commits[position] = commit
        if len(self._commits) > REMEMBERED:
            self._commits.popitem(last=False)
        span = self._tracer.start_span(
            "fan-out",
            _within(commit),
            SpanKind.CONSUMER,
            {"bonfire.tenant": tenant, "bonfire.position": position, "bonfire.xid": xid},
            record_exception=False,
        )
        return OtelSending(span)

    def read(self, positions: Sequence[int], queries: Sequence[str]) -> "OtelSending | None":
        commits = [self._commits[position] for position in sorted(set(positions)) if position in self._commits]
        if not commits:
            return None
        span = self._tracer.start_span(
            "read",
            _within(commits[0]),
            attributes={"bonfire.queries": sorted(set(queries))},
            links=[Link(commit) for commit in commits[1:]],
            record_exception=False,
        )
        return OtelSending(span)

    def close(self) -> None:
        # By itself it would try for half a minute where there is no collector, and a node that ends is waited for.
        limit = Timer(CLOSE_SECONDS, self._give_up)
        limit.start()
        try:
            self._provider.shutdown()
        finally:
            limit.cancel()


class OtelMutation:
    """bonfire.telemetry.tracing.MutationTrace."""

    def __init__(self, tracer: Tracer, ids: "_Ids", span: Span, commit_id: int) -> None:
        self._tracer = tracer
        self._ids = ids
        self._span = span
        self._commit_id = commit_id
        self._commit: Span | None = None
        self._transaction: Span | None = None

    @contextmanager
    def transaction(self, attempt: int) -> Iterator[None]:
        within = set_span_in_context(self._span, Context())
        transaction = self._tracer.start_span("transaction", within, attributes={"bonfire.attempt": attempt})
        self._transaction = transaction
        failed = True
        try:
            yield
            failed = False
        finally:
            ended: Sequence[Span | None] = (self._commit, transaction)
            self._commit = self._transaction = None
            for span in ended:
                if span is not None:
                    if failed:
                        span.set_status(Status(StatusCode.ERROR))
                    span.end()

    def committing(self, xid: int) -> None:
        assert self._transaction is not None
        within = set_span_in_context(self._transaction, Context())
        self._ids.next_span = self._commit_id
        self._commit = self._tracer.start_span("commit", within, attributes={"bonfire.xid": xid})
        self._ids.next_span = None

    def end(self, outcome: str) -> None:
        self._span.set_attribute("bonfire.outcome", outcome)
        if outcome not in ("committed", "replayed"):
            self._span.set_status(Status(StatusCode.ERROR, outcome))
        self._span.end()


class OtelSending:
    """bonfire.telemetry.tracing.Sending."""

    def __init__(self, span: Span) -> None:
        self._span = span

    def queued(self, frames: int, size: int) -> None:
        self._span.set_attributes({"bonfire.frames": frames, "bonfire.bytes": size})

    def end(self) -> None:
        self._span.end()


class _Ids(RandomIdGenerator):
    """Random ids, but for the next one where it is set. Spans are made on one thread, so the next one is ours."""

    next_trace: int | None = None
    next_span: int | None = None

    def generate_trace_id(self) -> int:
        return super().generate_trace_id() if self.next_trace is None else self.next_trace

    def generate_span_id(self) -> int:
        return super().generate_span_id() if self.next_span is None else self.next_span


def _within(parent: SpanContext) -> Context:
    return set_span_in_context(NonRecordingSpan(parent), Context())


def _derived(tenant: str, id: str) -> tuple[int, int]:
    """The ids of a mutation's trace and of its commit: 128 and 64 bits, never zero."""
    digest = sha256(f"{tenant}\0{id}".encode(errors="backslashreplace")).digest()
    return int.from_bytes(digest[:16]) | 1, int.from_bytes(digest[16:24]) | 1
