"""Medians, percentiles and ratios."""

from collections.abc import Sequence
from statistics import median
from typing import Literal

from msgspec import Struct

Better = Literal["higher", "lower"]


class Compared(Struct, frozen=True):
    """A figure of bonfire's beside the same one of another server, or of a floor. `ratio` is the median over rounds of
    one divided by the other, each round's pair measured one right after the other: on a busy machine it says more than
    the figures do. `low` and `high` are its least and greatest round."""

    ours: float
    theirs: float
    ratio: float
    low: float
    high: float


def compare(ours: Sequence[float], theirs: Sequence[float], *, better: Better) -> Compared:
    """`better`: "higher" (ratio = ours / theirs, for rates) or "lower" (ratio = theirs / ours, for costs): either way 1
    is as good as the other, and less is worse."""
    pairs = zip(ours, theirs, strict=True)
    ratios = [one / other if better == "higher" else other / one for one, other in pairs]
    return Compared(median(ours), median(theirs), median(ratios), min(ratios), max(ratios))


def percentile(values: Sequence[float], share: float) -> float:
    """The value that `share` of all values (0 to 1) do not exceed."""
    ranked = sorted(values)
    return ranked[min(len(ranked) - 1, int(share * len(ranked)))]
