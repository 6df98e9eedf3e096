import pytest

from bench.stats import compare, percentile


def test_a_ratio_is_the_median_of_each_rounds_own() -> None:
    compared = compare([10, 20, 90], [10, 10, 10], better="lower")

    assert (compared.ours, compared.theirs) == (20, 10)
    assert compared.ratio == 0.5
    assert compared.low == pytest.approx(1 / 9)
    assert compared.high == 1


def test_more_is_better_the_other_way_round_where_higher_figures_are() -> None:
    assert compare([20], [10], better="higher").ratio == 2
    assert compare([20], [10], better="lower").ratio == 0.5


@pytest.mark.parametrize(("share", "expected"), [(0.5, 51), (0.99, 100), (1.0, 100)])
def test_percentiles(share: float, expected: int) -> None:
    assert percentile(list(range(1, 101)), share) == expected
