"""The oracle: what every live query gave at every position, from the database's own history."""

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from soak.journal import Source
from soak.queries import EVERYBODY, Board, Change, Records, board_of
from soak.rows import Key, Result


@dataclass(frozen=True)
class Committed:
    """A transaction that is in the WAL. `position` is its place there; `outbox` the one that the outbox gave it, None
    where it told nothing. `mutations` are the ids (tenant, id) that it claimed."""

    xid: int
    position: int
    outbox: int | None
    at: float
    changes: Sequence[Change] = ()
    mutations: Sequence[tuple[str, str]] = ()

    def place(self, source: Source) -> int:
        """Its position, as readers of that kind say it."""
        return self.position if source == "wal" or self.outbox is None else self.outbox


@dataclass
class Versions:
    """The results of one live query, one after the other: `results[n]` held from commit number `commits[n]` on."""

    commits: list[int] = field(default_factory=lambda: [-1])
    results: list[Result] = field(default_factory=list)

    def after(self, commit: int) -> Result:
        """The result after commit number `commit` (-1: before all)."""
        return self.results[bisect_right(self.commits, commit) - 1]

    def next_change(self, commit: int) -> int | None:
        """The first commit behind `commit` that changed the result."""
        place = bisect_right(self.commits, commit)
        return self.commits[place] if place < len(self.commits) else None


class History:
    """All commits in the WAL's order, and the versions of every live query in `keys`.

    `before` is what the records were before the first of them. Positions of two kinds of readers differ: each question
    says whose.
    """

    def __init__(self, before: Iterable[Change], commits: Sequence[Committed], keys: Iterable[Key]) -> None:
        self.commits = sorted(commits, key=lambda commit: commit.position)
        self._places: dict[Source, list[int]] = {
            source: [commit.place(source) for commit in self.commits] for source in ("wal", "listen")
        }
        self.versions: dict[Key, Versions] = {}
        self._records = Records()
        for change in before:
            self._records.apply(change)
        by_board: dict[Board, list[Key]] = defaultdict(list)
        for key in set(keys):
            by_board[board_of(key)].append(key)
            self.versions[key] = Versions(results=[self._records.result(key)])
        for number, commit in enumerate(self.commits):
            touched: set[Board] = set()
            for change in commit.changes:
                touched |= self._records.apply(change)
            touched |= {(tenant, EVERYBODY) for tenant, _ in touched}
            for board in touched:
                for key in by_board.get(board, ()):
                    self._note(key, number)

    def number(self, source: Source, position: int) -> int:
        """The number of the last commit at or before `position`; -1 where there is none."""
        return bisect_right(self._places[source], position) - 1

    def disorder(self) -> list[Committed]:
        """Commits whose place in the outbox contradicts the WAL's order."""
        placed = [commit for commit in self.commits if commit.outbox is not None]
        return [
            later
            for earlier, later in pairwise(placed)
            if earlier.place("listen") >= later.place("listen") or later.place("listen") > later.position
        ]

    def _note(self, key: Key, number: int) -> None:
        versions = self.versions[key]
        result = self._records.result(key)
        if result != versions.results[-1]:
            versions.commits.append(number)
            versions.results.append(result)
