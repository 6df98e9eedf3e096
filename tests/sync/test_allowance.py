"""How fast one client is read from."""

from bonfire.sync.allowance import FRAME_BYTES, Allowance, weight


def test_what_is_saved_may_be_spent_at_once_and_the_rest_is_waited_for() -> None:
    now = 100.0
    allowance = Allowance(10, 4.0, lambda: now)
    assert allowance.spend(10) == 0.0
    assert allowance.spend(2) == 0.5
    now += 0.5
    assert allowance.spend(0) == 0.0
    now += 1000.0
    assert allowance.spend(11) == 0.25, "no more is saved than may be spent at once"


def test_a_large_frame_is_as_many_as_would_hold_it() -> None:
    assert [weight(bytes(size)) for size in (0, FRAME_BYTES - 1, FRAME_BYTES, 10 * FRAME_BYTES)] == [1, 1, 2, 11]
