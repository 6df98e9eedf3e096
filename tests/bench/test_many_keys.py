import pytest

from bench.many_keys import SLOW_MS, is_held
from bench.writer import Run

QUICK = [1.0] * 100


@pytest.mark.parametrize(
    ("run", "held"),
    [
        (Run(QUICK, [], 100, 3.0), True),
        (Run(QUICK, [], 101, 3.0), False),
        (Run(QUICK, [], 100, 4.0), False),
        (Run([1.0] * 95 + [SLOW_MS * 2] * 5, [], 100, 3.0), False),
        (Run([1 + place / 50 for place in range(100)], [], 100, 3.0), True),
        (Run([place**2 / 150 for place in range(100)], [], 100, 3.0), False),
    ],
    ids=["steady", "a row is missing", "the writer is late", "slow", "somewhat slower", "slower and slower"],
)
def test_a_rate_is_held_when_nothing_is_lost_late_or_slower_as_it_goes_on(run: Run, held: bool) -> None:
    assert is_held(run, seconds=3.0) is held
