from random import Random

from bonfire.lane.retry import RetryPolicy, full_jitter


def test_waits_are_spread_from_zero_to_a_doubling_ceiling() -> None:
    random = Random(1)
    for attempt, ceiling in [(1, 1.0), (2, 2.0), (5, 16.0)]:
        waits = [full_jitter(attempt, 1.0, 300.0, random) for _ in range(2000)]
        assert 0.0 <= min(waits) < ceiling * 0.05
        assert ceiling * 0.95 < max(waits) <= ceiling


def test_the_ceiling_is_capped_however_long_it_goes_on() -> None:
    waits = [full_jitter(attempt, 1.0, 300.0, Random(attempt)) for attempt in (20, 100, 100_000)]
    assert all(wait <= 300.0 for wait in waits)


def test_a_job_is_exhausted_at_the_last_attempt() -> None:
    policy = RetryPolicy(max_attempts=3)
    assert [policy.exhausted(attempts) for attempts in (1, 2, 3, 4)] == [False, False, True, True]
