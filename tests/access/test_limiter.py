"""Limits: what is taken at once, what in the long run, and that strangers can't lock anybody out."""

import pytest

from bonfire.access.limiter import BURST_SECONDS, GLOBAL_FAILURES, KNOWN_SECONDS, Buckets, Limiter, Throttled
from bonfire.access.principal import Principal
from bonfire_protocol.faults import FaultCode

ADA = Principal(tenant="north", user="ada", name="Ada")
BEN = Principal(tenant="north", user="ben", name="Ben")
SUE = Principal(tenant="south", user="sue", name="Sue")


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def limiter(clock: Clock, *, caller: float = 0, tenant: float = 0, failures: float = 0) -> Limiter:
    return Limiter(clock, caller_rate=caller, tenant_rate=tenant, failures_per_minute=failures)


def ask(limits: Limiter, principal: Principal | None, times: int, address: str | None = "192.0.2.1") -> int:
    """How many requests of so many are let in."""
    done = 0
    for _ in range(times):
        try:
            limits.request(principal, address)
            done += 1
        except Throttled:
            pass
    return done


def test_a_caller_may_do_much_at_once_and_then_so_much_a_second(clock: Clock) -> None:
    limits = limiter(clock, caller=5)
    assert ask(limits, ADA, 100) == 5 * BURST_SECONDS
    clock.now += 1
    assert ask(limits, ADA, 100) == 5
    assert ask(limits, BEN, 1) == 1


def test_a_refusal_says_when_to_come_back(clock: Clock) -> None:
    limits = limiter(clock, caller=0.5)
    ask(limits, ADA, 5)
    with pytest.raises(Throttled) as refused:
        limits.request(ADA, None)
    assert refused.value.code is FaultCode.too_many
    assert refused.value.next == "retry"
    clock.now += refused.value.wait
    limits.request(ADA, None)


def test_a_tenants_callers_share_what_it_has_and_take_nothing_from_others(clock: Clock) -> None:
    limits = limiter(clock, tenant=1)
    assert ask(limits, ADA, 6) + ask(limits, BEN, 6) == BURST_SECONDS
    assert ask(limits, SUE, 6) == 6


def test_a_large_body_is_paid_for_afterwards(clock: Clock) -> None:
    limits = limiter(clock, caller=10)
    limits.request(ADA, None)
    limits.spend(ADA, None, 1000)
    assert ask(limits, ADA, 1) == 0
    clock.now += 90
    assert ask(limits, ADA, 1) == 0
    clock.now += 11
    assert ask(limits, ADA, 1) == 1


def test_who_is_not_known_goes_by_the_address(clock: Clock) -> None:
    limits = limiter(clock, caller=1, tenant=1)
    assert ask(limits, None, 100) == BURST_SECONDS
    assert ask(limits, None, 1, "192.0.2.2") == 1
    assert ask(limits, None, 1, None) == 1


def test_names_can_not_be_made_to_share_a_callers_limit(clock: Clock) -> None:
    limits = limiter(clock, caller=1)
    ask(limits, Principal(tenant="a b", user="c", name=""), 100)
    assert ask(limits, Principal(tenant="a", user="b c", name=""), 1) == 1


def test_no_limit_is_none(clock: Clock) -> None:
    limits = limiter(clock)
    assert ask(limits, ADA, 1000) == 1000
    for _ in range(1000):
        limits.failed("192.0.2.1")
    limits.hello("192.0.2.1")


def test_one_address_may_fail_so_often(clock: Clock) -> None:
    limits = limiter(clock, failures=6)
    for _ in range(6):
        limits.hello("192.0.2.1")
        limits.failed("192.0.2.1")
    with pytest.raises(Throttled):
        limits.hello("192.0.2.1")
    limits.hello("192.0.2.2")
    clock.now += 10
    limits.hello("192.0.2.1")


def test_a_network_of_ipv6_is_one_address(clock: Clock) -> None:
    limits = limiter(clock, failures=3)
    for number in range(3):
        limits.failed(f"2001:db8::{number}")
    with pytest.raises(Throttled):
        limits.hello("2001:db8::ffff")
    limits.hello("2001:db8:0:1::1")


def test_failures_from_everywhere_stop_strangers_but_nobody_who_is_known(clock: Clock) -> None:
    limits = limiter(clock, failures=6)
    limits.succeeded("192.0.2.1")
    for number in range(6 * GLOBAL_FAILURES):
        limits.failed(f"198.51.{number // 250}.{number % 250}")
    limits.hello("192.0.2.1")
    with pytest.raises(Throttled):
        limits.hello("203.0.113.1")
    # As long ago as that, it may be another's address by now.
    clock.now += KNOWN_SECONDS
    for number in range(6 * GLOBAL_FAILURES):
        limits.failed(f"198.51.{number // 250}.{number % 250}")
    with pytest.raises(Throttled):
        limits.hello("192.0.2.1")


def test_what_is_kept_is_bounded_and_the_quietest_are_forgotten(clock: Clock) -> None:
    buckets = Buckets(1, 2, clock, most=3)
    for key in ("a", "b", "c"):
        buckets.spend(key, 2)
    buckets.spend("a", 0)
    buckets.spend("d", 2)
    assert len(buckets) == 3
    assert buckets.wait("a") > 0
    assert buckets.wait("b") == 0
