"""When to try again: full jitter under a doubling ceiling, and an end to it."""

from random import Random

from msgspec import Struct


class RetryPolicy(Struct, frozen=True):
    """How often a job is tried, and how far apart.

    After failed attempt n (counted from 1) the wait is uniform in [0, min(cap, base * 2 ** (n - 1))] seconds: jobs
    that failed together do not come back together.
    """

    base: float = 1.0
    cap: float = 300.0
    max_attempts: int = 8

    def exhausted(self, attempts: int) -> bool:
        """Whether a job that has failed `attempts` times has failed for good."""
        return attempts >= self.max_attempts


def full_jitter(attempt: int, base: float, cap: float, random: Random) -> float:
    """Seconds to wait after attempt number `attempt` (from 1)."""
    # 2.0 ** 1024 overflows; no cap in use lies behind 60 doublings.
    return random.uniform(0.0, min(cap, base * 2.0 ** min(attempt - 1, 60)))
