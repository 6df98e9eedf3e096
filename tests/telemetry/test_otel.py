"""Traces by OpenTelemetry: one trace from a mutation to the frames that it caused, on however many nodes."""

import asyncio
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import StatusCode

from bonfire.clinical import Depends, QueryContext, Registry, Value
from bonfire.telemetry import otel
from bonfire.telemetry.otel import exporting
from support.live_client import Refusal, live_client
from support.node import serving
from telemetry.conftest import Traced

clinic = Registry()


class Count(Value, frozen=True):
    patients: int


@clinic.query("patients.howMany", depends=[Depends("Patient")])
async def how_many(ctx: QueryContext) -> Count:
    return (await ctx.rows(Count, "select count(*)::int as patients from patient"))[0]


def ids(span: ReadableSpan) -> tuple[int, int]:
    return span.context.trace_id, span.context.span_id


def parent(span: ReadableSpan) -> tuple[int, int]:
    assert span.parent is not None
    return span.parent.trace_id, span.parent.span_id


async def until_traced(traced: Traced, name: str) -> None:
    """Spans end a moment after what they tell of has reached its client."""
    async with asyncio.timeout(10):
        while name not in traced.spans:
            await asyncio.sleep(0.01)


def test_a_commit_on_another_node_is_in_the_trace_of_its_mutation(traced: Traced) -> None:
    mutation = traced.tracing.mutation("north", "m1", "notes.create")
    with mutation.transaction(1):
        mutation.committing(700)
    mutation.end("committed")
    elsewhere = Traced()
    fan_out = elsewhere.tracing.fan_out("north", "m1", position=4711, xid=700)
    fan_out.queued(12, 3400)
    fan_out.end()
    root, transaction, commit = (traced.only(name) for name in ("mutation notes.create", "transaction", "commit"))
    assert root.parent is None
    assert parent(transaction) == ids(root)
    assert parent(commit) == ids(transaction)
    arrived = elsewhere.only("fan-out")
    assert parent(arrived) == ids(commit)
    assert dict(arrived.attributes or {}) == {
        "bonfire.tenant": "north",
        "bonfire.position": 4711,
        "bonfire.xid": 700,
        "bonfire.frames": 12,
        "bonfire.bytes": 3400,
    }
    assert dict(root.attributes or {}) == {
        "bonfire.mutation": "notes.create",
        "bonfire.tenant": "north",
        "bonfire.outcome": "committed",
    }
    elsewhere.tracing.close()


def test_mutations_of_equal_ids_of_two_tenants_are_two_traces(traced: Traced) -> None:
    for tenant in ("north", "south"):
        traced.tracing.mutation(tenant, "m1", "notes.create").end("committed")
    north, south = traced.spans["mutation notes.create"]
    assert ids(north)[0] != ids(south)[0]


def test_an_attempt_that_failed_is_told_and_what_it_raised_is_not(traced: Traced) -> None:
    mutation = traced.tracing.mutation("north", "m1", "notes.create")
    for attempt in (1, 2):
        with suppress(ValueError), mutation.transaction(attempt):
            mutation.committing(700 + attempt)
            raise ValueError("Ada Lovelace")
    mutation.end("busy")
    assert [span.status.status_code for span in traced.spans["transaction"]] == [StatusCode.ERROR] * 2
    assert [(span.attributes or {})["bonfire.attempt"] for span in traced.spans["transaction"]] == [1, 2]
    root = traced.only("mutation notes.create")
    assert (root.status.status_code, root.status.description) == (StatusCode.ERROR, "busy")
    assert "Lovelace" not in "".join(span.to_json() for spans in traced.spans.values() for span in spans)


def test_nodes_agree_on_which_mutations_are_sampled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", "traceidratio")
    monkeypatch.setenv("OTEL_TRACES_SAMPLER_ARG", "0.5")
    here, there = Traced(), Traced()
    for number in range(60):
        here.tracing.mutation("north", f"m{number}", "notes.create").end("committed")
        there.tracing.fan_out("north", f"m{number}", position=number, xid=number).end()
    began = {ids(span)[0] for span in here.spans["mutation notes.create"]}
    arrived = {ids(span)[0] for span in there.spans["fan-out"]}
    assert began == arrived
    assert 10 < len(began) < 50


def test_a_read_for_several_mutations_is_in_the_first_trace_and_linked_to_the_others(traced: Traced) -> None:
    for number in (1, 2):
        traced.tracing.fan_out("north", f"m{number}", position=number, xid=number).end()
    assert traced.tracing.read([77], ["tasks.count"]) is None
    read = traced.tracing.read([2, 1, 77, 2], ["tasks.count", "tasks.count"])
    assert read is not None
    read.end()
    first, second = traced.spans["fan-out"]
    span = traced.only("read")
    assert span.parent == first.parent
    assert [link.context for link in span.links] == [second.parent]
    assert (span.attributes or {})["bonfire.queries"] == ("tasks.count",)


async def test_a_nodes_trace_goes_from_the_mutation_to_the_frames(
    traced: Traced, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bonfire.app.open_tracing", lambda *settings: traced.tracing)
    async with (
        serving(database_url, clinic) as url,
        live_client(url) as doctor,
        live_client(url) as ward,
        live_client(url) as office,
    ):
        patients = await ward.subscribe("patients.list")
        count = await office.subscribe("patients.howMany")
        await doctor.mutate("patients.create", given="Ada", family="Lovelace")
        await ward.until(lambda: len(ward.rows(patients)) == 1)
        await office.until(lambda: office.rows(count) == [{"patients": 1}])
        await until_traced(traced, "read")
        await until_traced(traced, "mutation patients.create")
        with pytest.raises(Refusal):
            await doctor.mutate("patients.create", given="Ada")
    mutations = traced.spans["mutation patients.create"]
    assert [(span.attributes or {})["bonfire.outcome"] for span in mutations] == ["committed", "bad_arguments"]
    commit, fan_out, read = (traced.only(name) for name in ("commit", "fan-out", "read"))
    assert ids(commit)[0] == ids(mutations[0])[0]
    assert parent(fan_out) == parent(read) == ids(commit)
    assert (fan_out.attributes or {})["bonfire.xid"] == (commit.attributes or {})["bonfire.xid"]
    for span in (fan_out, read):
        # One client has a patch, the other one a result that was read; each with the transition's end. A watermark may
        # leave with them.
        assert (span.attributes or {})["bonfire.frames"] in (2, 3, 4)


class Collector:
    """An OpenTelemetry collector that keeps what it is sent."""

    def __init__(self) -> None:
        self.got: list[tuple[str, bytes]] = []
        self.status = 200
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                outer.got.append((self.path, self.rfile.read(int(self.headers["content-length"]))))
                self.send_response(outer.status)
                self.end_headers()

            def log_message(self, format: str, *args: object) -> None: ...

        self.server = HTTPServer(("127.0.0.1", 0), Handler)
        self.thread = threading.Thread(target=self.server.serve_forever)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.server_port}"


@pytest.fixture
def collector() -> Iterator[Collector]:
    made = Collector()
    made.thread.start()
    yield made
    made.server.shutdown()
    made.thread.join()
    made.server.server_close()


def test_an_end_does_not_wait_long_for_a_collector_that_is_not_there(
    collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(otel, "CLOSE_SECONDS", 0.2)
    collector.status = 503
    tracing = exporting(collector.url, None)
    tracing.mutation("north", "m1", "notes.create").end("committed")
    begun = time.monotonic()
    tracing.close()
    assert time.monotonic() - begun < 10
    assert collector.got


def test_spans_reach_the_collector_by_the_time_that_tracing_is_closed(collector: Collector) -> None:
    tracing = exporting(collector.url + "/", worker=3)
    tracing.mutation("north", "m1", "notes.create").end("committed")
    tracing.close()
    ((path, body),) = collector.got
    assert path == "/v1/traces"
    assert b"mutation notes.create" in body
    assert b"bonfire" in body
