"""What clients saw and what they were told: written down as it happens, judged afterwards.

Times are seconds since 1970 by this machine's clock, which is Postgres' too.
"""

from dataclasses import dataclass, field
from typing import Any, Literal

from soak.rows import Key, Result

Source = Literal["wal", "listen"]


@dataclass(frozen=True)
class Step:
    """The client has moved to `position`: `changed` holds each result that the step put in place, and None for each
    that it let go of. `how`: the frames that did it, in short, for a report."""

    at: float
    position: int
    changed: dict[Key, Result | None]
    how: str = ""


@dataclass(frozen=True)
class Claim:
    """From `at` until the next claim, the client shows its data as live, or as stale, as of `position`."""

    at: float
    position: int
    live: bool


@dataclass
class Connection:
    """One connection of client `client`. `said`: the newest position that it had shown before. `slowed_at`: from when
    on the network held its bytes back, so that even a fresh word was old when it came."""

    client: str
    number: int
    node: int
    source: Source
    said: int
    welcome: int
    steps: list[Step] = field(default_factory=list)
    claims: list[Claim] = field(default_factory=list)
    slowed_at: float = float("inf")
    resumed: int = 0
    conflated: int = 0


@dataclass(frozen=True)
class Answer:
    """An answer to a mutation. `position` and `value` are those of `committed`; `code`, `next` those of `refused`."""

    at: float
    client: str
    kind: Literal["committed", "refused"]
    source: Source
    position: int = 0
    value: Any = None
    code: str = ""
    next: str = ""


@dataclass
class Mutation:
    """A mutation, by its id, as its writer sent it. Each record that it makes has the id as its title: `writes` says
    how many there are when it has been done once."""

    id: str
    tenant: str
    writes: int
    sent_at: float
    answers: list[Answer] = field(default_factory=list)


@dataclass(frozen=True)
class Complaint:
    """Something that a client found wrong by itself, at once."""

    at: float
    client: str
    kind: str
    detail: str


@dataclass(frozen=True)
class Final:
    """What a client held when all was quiet, and the position that it said this is true at. A mutation that was under
    way when its writer stopped may be done after that: then it is not in here, and needs not be."""

    source: Source
    position: int
    held: dict[Key, Result]


@dataclass
class Journal:
    """All of one run. `final`: what each client held when all was quiet, or why it was not live then."""

    connections: list[Connection] = field(default_factory=list)
    mutations: dict[str, Mutation] = field(default_factory=dict)
    complaints: list[Complaint] = field(default_factory=list)
    final: dict[str, Final | str] = field(default_factory=dict)
    checks: dict[str, int] = field(default_factory=dict)
