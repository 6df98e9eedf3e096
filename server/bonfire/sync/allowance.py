"""How fast one client is read from: an allowance of frames that fills as time goes by, and that it spends."""

from collections.abc import Callable

FRAME_BYTES = 4096
"""A larger frame counts as so many of this size."""


def weight(frame: bytes) -> int:
    """As how many frames it counts."""
    return 1 + len(frame) // FRAME_BYTES


class Allowance:
    """`at_once`: what may be spent after a quiet while; `per_second`: what it fills by. `clock` counts seconds."""

    __slots__ = ("_at", "_at_once", "_clock", "_left", "_per_second")

    def __init__(self, at_once: float, per_second: float, clock: Callable[[], float]) -> None:
        self._at_once = at_once
        self._per_second = per_second
        self._clock = clock
        self._left = at_once
        self._at = clock()

    def spend(self, frames: int) -> float:
        """They were taken. In how many seconds the next may be; 0.0: now."""
        now = self._clock()
        self._left = min(self._at_once, self._left + (now - self._at) * self._per_second) - frames
        self._at = now
        return max(0.0, -self._left / self._per_second)
