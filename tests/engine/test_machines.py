"""The engine as a state machine of hypothesis: the simulated Postgres of `test_live_simulation.py`, whose actions are
the rules. Whatever a client is shown after a step is compared with the truth at that position by the simulation itself.

Each step has a small seed of its own for what the simulation chooses in it (which row, which client, which read comes
back). So steps can be left out one by one without changing what the others do, and a schedule that fails is shrunk to
the few steps that it takes.
"""

import os
from random import Random

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from engine.test_live_simulation import World


def _with_clients(machine: "Schedules") -> bool:
    return bool(machine.world.clients)


def _in_doubt(machine: "Schedules") -> bool:
    return bool(machine.world.reads)


def _behind(machine: "Schedules") -> bool:
    return machine.world.delivered < len(machine.world.log)


def _unseen(machine: "Schedules") -> bool:
    return any(not transaction.visible for transaction in machine.world.log)


SEEDS = st.integers(0, 63)

SOAK = bool(os.environ.get("BONFIRE_TEST_SOAK"))


class Schedules(RuleBasedStateMachine):
    """Each example is one schedule. At its end all that is under way comes to its end: nobody may be left behind."""

    world: World
    whole = False
    """Whether the last step was done to its end: a schedule may be given up in the middle of one."""

    @initialize(seed=SEEDS)
    def the_world_begins(self, seed: int) -> None:
        # Its seed decides how large frames are, and how long the memory is.
        self.world = World(seed)
        self._do(seed, "join", "subscribe")

    def _do(self, seed: int, *actions: str) -> None:
        self.whole = False
        self.world.random = Random(seed)
        for action in actions:
            getattr(self.world, action)()
            self.world.flush()
        self.whole = True

    def teardown(self) -> None:
        if self.whole:
            self.world.random = Random(0)
            self.world.settle()

    # ---- Postgres

    @rule(seed=SEEDS)
    def a_transaction_begins(self, seed: int) -> None:
        self._do(seed, "begin")

    @rule(seed=SEEDS)
    def a_transaction_commits(self, seed: int) -> None:
        self._do(seed, "commit")

    @precondition(_unseen)
    @rule(seed=SEEDS)
    def a_commit_is_seen(self, seed: int) -> None:
        self._do(seed, "see")

    @precondition(_behind)
    @rule(seed=SEEDS)
    def a_commit_is_streamed(self, seed: int) -> None:
        self._do(seed, "deliver")

    @rule(seed=SEEDS)
    def several_commits_pass(self, seed: int) -> None:
        self._do(seed, "commit", "see", "commit", "deliver", "see", "deliver")

    @rule(seed=SEEDS)
    def the_stream_says_how_far_it_is(self, seed: int) -> None:
        self._do(seed, "watermark")

    # ---- the node

    @rule(seed=SEEDS)
    def a_read_is_asked_for(self, seed: int) -> None:
        self._do(seed, "ask")

    @precondition(_in_doubt)
    @rule(seed=SEEDS)
    def a_read_takes_its_snapshot(self, seed: int) -> None:
        self._do(seed, "take_snapshot")

    @precondition(_in_doubt)
    @rule(seed=SEEDS)
    def a_read_comes_back(self, seed: int) -> None:
        self._do(seed, "land")

    @rule(seed=SEEDS)
    def everything_is_read(self, seed: int) -> None:
        self._do(seed, "ask", "take_snapshot", "land")

    @rule(seed=SEEDS)
    def all_catch_up(self, seed: int) -> None:
        self._do(seed, *["see", "deliver"] * 4, *["ask", "take_snapshot", "land"] * 2, "watermark")

    @rule(seed=SEEDS)
    def the_history_shrinks(self, seed: int) -> None:
        self._do(seed, "seen")

    @rule()
    def a_heartbeat(self) -> None:
        self.whole = False
        self.world.engine.beat(vouched=True)
        self.world.flush()
        self.whole = True

    # ---- mishaps

    @rule(seed=SEEDS)
    def the_stream_is_cut(self, seed: int) -> None:
        self._do(seed, "cut")

    @rule(seed=SEEDS)
    def the_stream_blinks(self, seed: int) -> None:
        self._do(seed, "blink")

    @precondition(_behind)
    @rule(seed=SEEDS)
    def a_commit_cannot_be_read(self, seed: int) -> None:
        self._do(seed, "unreadable")

    # ---- clients

    @rule(seed=SEEDS)
    def a_client_joins_and_subscribes(self, seed: int) -> None:
        self._do(seed, "join", "subscribe")

    @precondition(_with_clients)
    @rule(seed=SEEDS)
    def a_client_subscribes(self, seed: int) -> None:
        self._do(seed, "subscribe")

    @precondition(_with_clients)
    @rule(seed=SEEDS)
    def a_client_lets_go(self, seed: int) -> None:
        self._do(seed, "unsubscribe")

    @precondition(_with_clients)
    @rule(seed=SEEDS)
    def a_client_leaves(self, seed: int) -> None:
        self._do(seed, "leave")

    @precondition(_with_clients)
    @rule(seed=SEEDS)
    def a_client_comes_back(self, seed: int) -> None:
        # It may think better of it, by chance: so it is asked more than once.
        self._do(seed, "come_back", "come_back", "come_back")

    @precondition(_with_clients)
    @rule(seed=SEEDS)
    def a_client_stops_reading(self, seed: int) -> None:
        self._do(seed, "stall", "stall")

    @precondition(_with_clients)
    @rule(seed=SEEDS)
    def a_client_reads_on(self, seed: int) -> None:
        self._do(seed, "read_on")

    @precondition(_with_clients)
    @rule(seed=SEEDS)
    def a_mutation_is_answered(self, seed: int) -> None:
        self._do(seed, "answer_mutation")

    @precondition(_with_clients)
    @rule(seed=SEEDS)
    def a_result_is_checked(self, seed: int) -> None:
        self._do(seed, "check_result")


TestSchedules = Schedules.TestCase
TestSchedules.settings = settings(
    derandomize=not SOAK,
    database=None,
    deadline=None,
    # A few seconds; minutes where BONFIRE_TEST_SOAK is set, and other schedules at each run.
    max_examples=3_000 if SOAK else 400,
    stateful_step_count=80,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
