"""Each benchmark runs, with tiny sizes: the figures say nothing, but that they are there."""

import math

import pytest

from bench.__main__ import BENCHES, QUICK
from bench.contenders import NoNode, install_rivals


@pytest.fixture(scope="session")
def rivals() -> None:
    try:
        install_rivals()
    except NoNode as error:
        pytest.skip(str(error))


@pytest.mark.usefixtures("rivals")
@pytest.mark.parametrize("name", QUICK)
async def test_each_benchmark_runs(cluster: str, name: str) -> None:
    lines = await QUICK[name](cluster, 1)

    assert lines
    for line in lines:
        assert math.isfinite(line.compared.ratio)
        assert line.compared.ours > 0
        assert line.compared.theirs > 0


def test_each_benchmark_has_a_tiny_size() -> None:
    assert list(QUICK) == list(BENCHES)
