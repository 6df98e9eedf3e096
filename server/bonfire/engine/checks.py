"""Self-checks under way: which live queries are being compared with their source, for whom, and what came of it."""

from typing import Literal

from bonfire.engine.query import LiveQuery
from bonfire.engine.session import Session

Outcome = Literal["same", "differed", "unknown"]


class Checks:
    """`done` and `differences` count those that could tell, and those that told of a difference."""

    def __init__(self) -> None:
        self.done = 0
        self.differences = 0
        self._askers: dict[LiveQuery, list[tuple[Session, str]]] = {}
        self._differed: list[str] = []

    def ask(self, query: LiveQuery, session: Session, check: str) -> None:
        """A client wants to know, under the id `check`."""
        self._askers.setdefault(query, []).append((session, check))

    def sample(self, query: LiveQuery) -> None:
        """Nobody in particular does."""
        self._askers.setdefault(query, [])

    def end(self, query: LiveQuery, outcome: Outcome) -> list[tuple[Session, str]]:
        """That is what came of it; gives those who asked. Without effect where it was not being checked."""
        askers = self._askers.pop(query, None)
        if askers is None:
            return []
        if outcome != "unknown":
            self.done += 1
        if outcome == "differed":
            self.differences += 1
            self._differed.append(query.identity.name)
        return askers

    def take_differed(self) -> list[str]:
        """The names of the queries that differed since the last call."""
        differed, self._differed = self._differed, []
        return differed
