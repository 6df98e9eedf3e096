"""When a worker that has ended is started again."""

import os
import time
from collections.abc import Callable
from typing import Final

TRY_AGAIN: Final = os.EX_TEMPFAIL
"""A worker's exit status when it could not start and may later: the database is away, not the worker broken."""


class Restarts:
    """When a worker that has ended is started again: at once, then after pauses that double; never, when it has
    ended too often without having served for a while in between. `now` is a monotonic clock, in seconds."""

    LONGEST: Final = 30.0
    MOST: Final = 6
    LIVED: Final = 30.0
    """After so many seconds of service, earlier ends count no more."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._started = now()
        self._ends = 0
        self._pauses = 0

    def started(self) -> None:
        self._started = self._now()

    def pause(self, status: int) -> float | None:
        """Seconds to wait after this end, with this exit status; None when starting again is hopeless."""
        if self._now() - self._started >= self.LIVED:
            self._ends = self._pauses = 0
        self._pauses += 1
        if status != TRY_AGAIN:
            self._ends += 1
            if self._ends >= self.MOST:
                return None
        return 0.0 if self._pauses == 1 else min(self.LONGEST, 0.5 * 2.0 ** (self._pauses - 2))
