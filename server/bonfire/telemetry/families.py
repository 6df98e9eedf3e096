"""Metric families: from a node's numbers to Prometheus' text, also for several processes at once.

A process gives its families as plain values, which another one can send on: `collect` makes them of prometheus_client's
own metrics, `encode_page` spells all of them, each process's labelled with its number.
"""

from collections.abc import Iterable, Mapping, Sequence
from math import inf

from msgspec import Struct
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from bonfire.telemetry.metrics import Histogram


class Sample(Struct, frozen=True, array_like=True):
    """One line of the page."""

    name: str
    labels: dict[str, str]
    value: float


class Family(Struct, frozen=True, array_like=True):
    """All samples of one metric. `kind` is Prometheus' word for it: gauge, counter, histogram."""

    name: str
    meaning: str
    kind: str
    samples: list[Sample]


Labels = tuple[str, ...]


def gauge(name: str, meaning: str, value: float) -> Metric:
    return GaugeMetricFamily(name, meaning, value=value)


def gauges(name: str, meaning: str, labels: Sequence[str], values: Iterable[tuple[Labels, float]]) -> Metric:
    family = GaugeMetricFamily(name, meaning, labels=labels)
    for labelled, value in values:
        family.add_metric(labelled, value)
    return family


def counter(name: str, meaning: str, value: float) -> Metric:
    """`name` ends with `_total`."""
    return CounterMetricFamily(name, meaning, value=value)


def counters(name: str, meaning: str, labels: Sequence[str], values: Iterable[tuple[Labels, float]]) -> Metric:
    family = CounterMetricFamily(name, meaning, labels=labels)
    for labelled, value in values:
        family.add_metric(labelled, value)
    return family


def histogram(name: str, meaning: str, measured: Histogram) -> Metric:
    return histograms(name, meaning, (), [((), measured)])


def histograms(name: str, meaning: str, labels: Sequence[str], values: Iterable[tuple[Labels, Histogram]]) -> Metric:
    family = HistogramMetricFamily(name, meaning, labels=labels)
    for labelled, measured in values:
        buckets = [(_spelled(bound), float(count)) for bound, count in measured.buckets()]
        family.add_metric(labelled, buckets, measured.total)
    return family


def _spelled(bound: float) -> str:
    return "+Inf" if bound == inf else str(bound)


def collect(metrics: Iterable[Metric]) -> list[Family]:
    """The families as they are now."""
    return [
        Family(
            metric.name,
            metric.documentation,
            metric.type,
            [Sample(sample.name, dict(sample.labels), sample.value) for sample in metric.samples],
        )
        for metric in metrics
    ]


def encode_page(shared: Sequence[Family], workers: Mapping[str, Sequence[Family]], accept: str) -> tuple[bytes, str]:
    """The page and its content type, in the form that the header `accept` asks for. `shared` is told once, for all; the
    families of `workers` have the label `worker`, unless there is one only, called ""."""
    encode, content_type = choose_encoder(accept)
    return encode(_Page(_merge(shared, workers))), content_type


def _merge(shared: Sequence[Family], workers: Mapping[str, Sequence[Family]]) -> list[Metric]:
    merged: dict[str, Metric] = {}
    for worker, families in [("", shared), *workers.items()]:
        labelled = {"worker": worker} if worker else {}
        for family in families:
            metric = merged.get(family.name)
            if metric is None:
                metric = merged[family.name] = Metric(family.name, family.meaning, family.kind)
            for sample in family.samples:
                metric.add_sample(sample.name, {**labelled, **sample.labels}, sample.value)
    return list(merged.values())


class _Page(Collector):
    """As prometheus_client wants it: something to collect from."""

    def __init__(self, metrics: list[Metric]) -> None:
        self._metrics = metrics

    def collect(self) -> list[Metric]:
        return self._metrics
