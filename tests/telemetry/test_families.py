"""The page, read as Prometheus reads it."""

from collections.abc import Sequence

import msgspec
from prometheus_client.openmetrics.parser import text_string_to_metric_families as read_openmetrics
from prometheus_client.parser import text_string_to_metric_families

from bonfire.telemetry.families import Family, collect, counter, counters, encode_page, gauge, histogram
from bonfire.telemetry.metrics import Histogram

Line = tuple[str, frozenset[tuple[str, str]]]


def read(page: bytes) -> dict[Line, float]:
    families = list(text_string_to_metric_families(page.decode()))
    assert len({family.name for family in families}) == len(families), "a metric is told in one place"
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in families
        for sample in family.samples
    }


def line(name: str, **labels: str) -> Line:
    return name, frozenset(labels.items())


def some() -> Sequence[Family]:
    measured = Histogram((0.001, 0.5))
    measured.observe(0.2)
    measured.observe(0.0005)
    return collect(
        [
            gauge("bonfire_connections", "Open.", 3),
            counters("bonfire_mutations_total", "Done.", ["outcome"], [(("committed",), 7), (("busy",), 1)]),
            histogram("bonfire_read_seconds", "Reads.", measured),
        ]
    )


def test_one_process_needs_no_label() -> None:
    body, content_type = encode_page([], {"": some()}, "")
    assert content_type.startswith("text/plain; version=0.0.4")
    assert read(body) == {
        line("bonfire_connections"): 3,
        line("bonfire_mutations_total", outcome="committed"): 7,
        line("bonfire_mutations_total", outcome="busy"): 1,
        line("bonfire_read_seconds_bucket", le="0.001"): 1,
        line("bonfire_read_seconds_bucket", le="0.5"): 2,
        line("bonfire_read_seconds_bucket", le="+Inf"): 2,
        line("bonfire_read_seconds_count"): 2,
        line("bonfire_read_seconds_sum"): 0.2005,
    }


def test_several_processes_are_told_apart_and_what_is_shared_is_told_once() -> None:
    shared = collect([gauge("bonfire_jobs", "Jobs.", 5)])
    body, _ = encode_page(shared, {"0": some(), "1": some()}, "")
    lines = read(body)
    assert lines[line("bonfire_jobs")] == 5
    assert lines[line("bonfire_connections", worker="0")] == 3
    assert lines[line("bonfire_read_seconds_bucket", worker="1", le="0.5")] == 2
    assert line("bonfire_connections") not in lines


def test_openmetrics_for_who_asks_for_it() -> None:
    body, content_type = encode_page([], {"": some()}, "application/openmetrics-text; version=1.0.0")
    assert content_type.startswith("application/openmetrics-text; version=1.0.0")
    families = read_openmetrics(body.decode())  # type: ignore[no-untyped-call]  # it has no types
    assert {family.name for family in families} == {
        "bonfire_connections",
        "bonfire_mutations",
        "bonfire_read_seconds",
    }


def test_families_survive_the_way_to_another_process() -> None:
    sent = msgspec.msgpack.encode(collect([counter("bonfire_commits_total", "Commits.", 2**53)]))
    assert msgspec.msgpack.decode(sent, type=list[Family]) == collect(
        [counter("bonfire_commits_total", "Commits.", 2**53)]
    )
