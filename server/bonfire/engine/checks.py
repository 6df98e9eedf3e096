"""Self-checks: live queries that are read afresh, and compared with what was sent. A difference is counted, and
repaired by the whole result."""

from collections.abc import Container

from bonfire.engine.delivery import Delivery
from bonfire.engine.frames import SharedFrame
from bonfire.engine.query import LiveQuery
from bonfire.engine.session import Session
from bonfire.engine.settle import Settled
from bonfire.engine.telling import Telling, differ
from bonfire_protocol.down import Checked, CheckOutcome
from bonfire_protocol.values import format_position


class Checks:
    """`done` and `differences` count those that could tell, and those that told of a difference. `sessions`: who is
    there to be told."""

    def __init__(self, sessions: Container[Session], delivery: Delivery, telling: Telling) -> None:
        self.done = 0
        self.differences = 0
        self._sessions = sessions
        self._delivery = delivery
        self._telling = telling
        self._askers: dict[LiveQuery, list[tuple[Session, str]]] = {}
        self._differed: list[str] = []

    def begin(self, query: LiveQuery, *askers: tuple[Session, str]) -> None:
        """A read of it is owed. `askers`: (session, the id that it gave this check); none for a sample."""
        self._askers.setdefault(query, []).extend(askers)

    def compare(self, query: LiveQuery, settled: Settled, position: int) -> None:
        """The query was live when it was read for a check: what was read must be what was sent."""
        if settled.exact_until is not None:
            self.end(query, "unknown", position)
        elif not differ(query, settled):
            self.end(query, "same", position)
        else:
            query.take(settled.result, settled.more)
            self._delivery.fan_out({query: self._telling.repaired(query)}, position)
            self.end(query, "differed", position)

    def end(self, query: LiveQuery, outcome: CheckOutcome, position: int) -> None:
        """That is what came of it. Without effect where it was not being checked."""
        askers = self._askers.pop(query, None)
        if askers is None:
            return
        if outcome != "unknown":
            self.done += 1
        if outcome == "differed":
            self.differences += 1
            self._differed.append(query.identity.name)
        for session, check in askers:
            if session in self._sessions:
                self._delivery.send([SharedFrame(Checked(check, outcome, format_position(position)))], [session])

    def take_differed(self) -> list[str]:
        """The names of the queries that differed since the last call."""
        differed, self._differed = self._differed, []
        return differed
