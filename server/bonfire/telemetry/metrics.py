"""What is counted where it happens: plain numbers, changed on the event loop's thread alone.

No lock, no label to look up: a count on the way of every commit must cost less than a thousandth of what is counted.
`families.py` turns the numbers into Prometheus' when somebody asks.
"""

from bisect import bisect_left
from collections import Counter
from collections.abc import Sequence

LIVE_SECONDS = (0.0005, 0.001, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Upper bounds of buckets, in seconds, for what a viewer waits for."""

WORK_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""The same, for what a database does."""


class Histogram:
    """How long something took, counted by size. `bounds`: the buckets' upper bounds in seconds, ascending; a value that
    equals one belongs below it."""

    __slots__ = ("_bounds", "_counts", "total")

    def __init__(self, bounds: Sequence[float] = LIVE_SECONDS) -> None:
        self.total = 0.0
        self._bounds = bounds
        self._counts = [0] * (len(bounds) + 1)

    def observe(self, seconds: float) -> None:
        """Count one. What two clocks make less than nothing counts as nothing."""
        if seconds < 0.0:
            seconds = 0.0
        self._counts[bisect_left(self._bounds, seconds)] += 1
        self.total += seconds

    @property
    def count(self) -> int:
        return sum(self._counts)

    def buckets(self) -> list[tuple[float, int]]:
        """(upper bound, how many are at or below it), the last bound infinite."""
        counted = 0
        cumulative = []
        for bound, count in zip((*self._bounds, float("inf")), self._counts, strict=True):
            counted += count
            cumulative.append((bound, counted))
        return cumulative


class Traffic:
    """Frames, and their bytes as they go over the wire or come from it."""

    __slots__ = ("bytes", "frames")

    def __init__(self) -> None:
        self.frames = 0
        self.bytes = 0


class Mutations:
    """Mutations by function and outcome: `committed`, `replayed`, or the code of the fault. Functions are named by the
    registry, never by a client."""

    def __init__(self) -> None:
        self.outcomes: Counter[tuple[str, str]] = Counter()
        self.seconds: dict[str, Histogram] = {}

    def done(self, function: str, outcome: str, seconds: float) -> None:
        self.outcomes[function, outcome] += 1
        histogram = self.seconds.get(function)
        if histogram is None:
            histogram = self.seconds[function] = Histogram(WORK_SECONDS)
        histogram.observe(seconds)
