"""What a run does, said beforehand: all of it follows from a seed, can be kept in a file, and made shorter."""

from pathlib import Path
from random import Random
from typing import Literal

import msgspec
from msgspec import Struct

FaultKind = Literal[
    "kill node",
    "stop node",
    "freeze node",
    "jump clock",
    "kill postgres",
    "kill backend",
    "end backend",
    "end walsender",
    "drop slot",
    "invalidate slot",
    "fill disk",
    "drain connections",
    "hold locks",
    "lag replication",
    "stall database",
    "cut database",
    "cut sockets",
    "stall sockets",
    "swallow sockets",
    "drip sockets",
    "rebuild model",
    "lose database",
    "kill standby",
    "lag standby",
]
NodeKind = Literal["wal", "listen", "replica", "workers"]
"""How a node learns of changes; `replica`: from the WAL of a standby, which it reads from too; `workers`: from the WAL,
in two processes that share a port."""

WEIGHTS: dict[FaultKind, int] = {
    "kill node": 3,
    "stop node": 3,
    "freeze node": 3,
    "jump clock": 1,
    "kill postgres": 2,
    "kill backend": 1,
    "end backend": 4,
    "end walsender": 4,
    "drop slot": 2,
    "invalidate slot": 1,
    "fill disk": 1,
    "drain connections": 2,
    "hold locks": 2,
    "lag replication": 3,
    "stall database": 2,
    "cut database": 2,
    "cut sockets": 5,
    "stall sockets": 3,
    "swallow sockets": 3,
    "drip sockets": 4,
    "rebuild model": 1,
    "lose database": 1,
    "kill standby": 2,
    "lag standby": 4,
}


class Fault(Struct, frozen=True):
    """Begins `at` seconds after the start and lasts `seconds`. `target`: what it hits, modulo how many there are."""

    at: float
    kind: FaultKind
    target: int
    seconds: float


class Reader(Struct, frozen=True):
    """A subscriber. `wants` is how many live queries it always holds."""

    seed: int
    wants: int
    churn: float
    msgpack: bool
    deflate: bool


class Writer(Struct, frozen=True):
    """`socket`: mutations over a socket of its own. `twin`: the same over two at once. `sql`: plain SQL. `bulk`: plain
    SQL, thousands of rows a transaction. `flood`: rows that weigh a lot, again and again. `pause`: the mean of seconds
    between two writes."""

    seed: int
    kind: Literal["socket", "twin", "sql", "bulk", "flood"]
    pause: float


class Script(Struct, frozen=True):
    """One run: `seconds` of storm, then quiet, then the verdict."""

    seed: int
    seconds: float
    nodes: list[NodeKind]
    readers: list[Reader]
    writers: list[Writer]
    faults: list[Fault]


def compose(
    seed: int,
    *,
    seconds: float,
    readers: int,
    nodes: list[NodeKind] | None = None,
    every: float = 3.0,
    without: frozenset[str] = frozenset(),
) -> Script:
    """The script of a seed. A fault begins every `every` seconds in the mean; none of `without`."""
    random = Random(seed)
    chosen: list[NodeKind] = nodes or random.choice(_FLEETS)
    writers = [
        *(Writer(random.getrandbits(32), "socket", random.uniform(0.05, 0.3)) for _ in range(random.randint(3, 5))),
        *(Writer(random.getrandbits(32), "twin", random.uniform(0.1, 0.4)) for _ in range(2)),
        *(Writer(random.getrandbits(32), "sql", random.uniform(0.04, 0.2)) for _ in range(random.randint(2, 4))),
        Writer(random.getrandbits(32), "bulk", random.uniform(0.7, 3)),
        Writer(random.getrandbits(32), "flood", random.uniform(0.2, 0.6)),
    ]
    watching = [
        Reader(
            random.getrandbits(32),
            wants=random.randint(1, 6),
            churn=random.choice([0.0, 0.5, 2.0]),
            msgpack=random.random() < 0.3,
            deflate=random.random() < 0.3,
        )
        for _ in range(readers)
    ]
    # A standby whose slot on the primary is lost does not come back by itself: that is its operator's to see to.
    senseless = _NOT_WITH_STANDBY if "replica" in chosen else _WITH_STANDBY
    kinds = [kind for kind in WEIGHTS if kind not in without | senseless]
    weights = [WEIGHTS[kind] for kind in kinds]
    faults = []
    at = 1.0 + random.expovariate(1 / every)
    while at < seconds - 1:
        kind = random.choices(kinds, weights)[0]
        faults.append(Fault(round(at, 2), kind, random.getrandbits(16), round(random.uniform(0.3, 5.0), 2)))
        at += random.expovariate(1 / every)
    return Script(seed, seconds, chosen, watching, writers, faults)


_WITH_STANDBY: frozenset[FaultKind] = frozenset({"kill standby", "lag standby"})
_NOT_WITH_STANDBY: frozenset[FaultKind] = frozenset({"invalidate slot", "drop slot"})

_FLEETS: list[list[NodeKind]] = [
    ["wal"],
    ["wal", "wal"],
    ["wal", "wal", "wal"],
    ["wal", "wal"],
    ["listen", "listen"],
    ["wal", "listen"],
    ["wal", "replica"],
    ["workers", "wal"],
]


def save(script: Script, path: Path) -> None:
    path.write_bytes(msgspec.json.format(msgspec.json.encode(script)))


def load(path: Path) -> Script:
    return msgspec.json.decode(path.read_bytes(), type=Script)
