"""The whole product under fire, for a moment: `make soak` does the same for as long as one likes."""

import pytest

from soak.attempt import attempt
from soak.report import describe
from soak.script import Fault, FaultKind, Reader, Script, compose

# Each of these once, in an order that lets the next one find everything at work again.
FAULTS: list[FaultKind] = [
    "cut sockets",
    "cut sockets",
    "end walsender",
    "kill node",
    "swallow sockets",
    "freeze node",
    "kill postgres",
    "lag replication",
    "stop node",
]


def short_script() -> Script:
    script = compose(7, seconds=14, readers=0, nodes=["wal", "wal"], every=1e9)
    readers = [Reader(seed, 3, 0.5, seed % 3 == 0, seed % 2 == 0) for seed in range(8)]
    # Many of the sockets, where it is sockets; one node after the other.
    faults = [Fault(2.0 + 1.3 * number, kind, 6 + number, 0.8) for number, kind in enumerate(FAULTS)]
    return Script(script.seed, script.seconds, script.nodes, readers, script.writers, faults)


@pytest.mark.acceptance
@pytest.mark.timeout(180)
def test_nothing_is_lost_doubled_torn_or_out_of_order_while_everything_fails() -> None:
    outcome = attempt(short_script())
    assert outcome.violations == [], describe(outcome)
    # A storm in which nothing happened would prove nothing.
    assert outcome.faults.total() >= len(FAULTS) - 1, describe(outcome)
    assert outcome.counts["commits"] > 100, describe(outcome)
    assert outcome.counts["transitions checked"] > 300, describe(outcome)
    assert outcome.counts["resumed"] > 0, describe(outcome)
