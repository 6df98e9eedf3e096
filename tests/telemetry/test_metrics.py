"""The numbers themselves."""

from math import inf

from bonfire.telemetry.metrics import Histogram, Mutations


def test_a_histogram_counts_by_size_and_a_bound_belongs_below_itself() -> None:
    histogram = Histogram((0.1, 0.5, 1.0))
    for seconds in (0.05, 0.1, 0.2, 0.5, 0.7, 3.0):
        histogram.observe(seconds)
    assert histogram.buckets() == [(0.1, 2), (0.5, 4), (1.0, 5), (inf, 6)]
    assert histogram.count == 6
    assert abs(histogram.total - 4.55) < 1e-9


def test_what_two_clocks_make_less_than_nothing_is_nothing() -> None:
    histogram = Histogram((0.1,))
    histogram.observe(-5.0)
    assert histogram.buckets() == [(0.1, 1), (inf, 1)]
    assert histogram.total == 0.0


def test_mutations_are_told_apart_by_function_and_outcome() -> None:
    mutations = Mutations()
    mutations.done("notes.create", "committed", 0.002)
    mutations.done("notes.create", "version_conflict", 0.001)
    mutations.done("notes.sign", "committed", 0.004)
    assert mutations.outcomes == {
        ("notes.create", "committed"): 1,
        ("notes.create", "version_conflict"): 1,
        ("notes.sign", "committed"): 1,
    }
    assert {name: histogram.count for name, histogram in mutations.seconds.items()} == {
        "notes.create": 2,
        "notes.sign": 1,
    }
