"""How long a worker that has ended stays away."""

from bonfire.workers.restarts import TRY_AGAIN, Restarts


def test_pauses_double_and_end() -> None:
    now = 0.0
    restarts = Restarts(lambda: now)
    assert [restarts.pause(1) for _ in range(6)] == [0.0, 0.5, 1.0, 2.0, 4.0, None]


def test_a_long_service_makes_up_for_earlier_ends() -> None:
    now = 0.0
    restarts = Restarts(lambda: now)
    assert [restarts.pause(-9) for _ in range(5)][-1] == 4.0
    restarts.started()
    now = 31.0
    assert restarts.pause(-9) == 0.0
    restarts.started()
    assert restarts.pause(-9) == 0.5


def test_a_world_that_is_not_ready_is_waited_for() -> None:
    restarts = Restarts(lambda: 0.0)
    pauses = [restarts.pause(TRY_AGAIN) for _ in range(50)]
    assert pauses[-1] == Restarts.LONGEST
