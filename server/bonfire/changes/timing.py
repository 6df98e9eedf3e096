"""Time and chance, passed in: what a source waits for, and how it waits."""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Timing:
    """All durations in seconds.

    `heartbeat`: between two looks at how far the database is. `patience`: how long a nudge waits for the database's own
    answer before it writes one. `silence`: a connection that has said nothing for so long is taken for dead.
    `retry_first` and `retry_most` bound the pause before the first and any later attempt to connect again.
    `housekeeping`: between two cleanings of the outbox.
    """

    now: Callable[[], float] = time.time
    monotonic: Callable[[], float] = time.monotonic
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    random: Callable[[], float] = random.random
    heartbeat: float = 0.5
    patience: float = 0.005
    silence: float = 15.0
    retry_first: float = 0.1
    retry_most: float = 2.0
    housekeeping: float = 60.0

    def pause(self, attempt: int) -> float:
        """How long to wait before attempt number `attempt` (from 0): full jitter, so that nodes cut off together
        don't come back together."""
        return self.random() * min(self.retry_most, self.retry_first * 2.0 ** min(attempt, 30))
