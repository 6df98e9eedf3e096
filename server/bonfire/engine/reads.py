"""Reads that the engine owes: which queries to read together, which reads are under way, which have come back."""

from collections import Counter
from collections.abc import Sequence
from itertools import chain

from msgspec import Raw, Struct

from bonfire.engine.query import KeyedPlan, LiveQuery, Plan, QueryIdentity
from bonfire.engine.session import Session
from bonfire.engine.view import slack
from bonfire.engine.visibility import Sight
from bonfire_protocol.faults import Fault

AT_ONCE = 4
"""Reads of one tenant under way at once, until they have come back: the shell should do some more in all."""

BATCH = 64
"""Queries per read: enough to spare transactions in a storm, few enough to come back soon."""

Answer = list[Raw] | Fault
"""The rows of one query, in order; or why it can't be answered."""


class Wanted(Struct, frozen=True):
    """One query of a read. `rows`: how many rows to ask for at most (keyed queries). `since`: the position of the first
    commit because of which it is read again; None: it is read for another reason."""

    number: int
    identity: QueryIdentity
    plan: Plan
    rows: int
    since: int | None = None


class Read(Struct, frozen=True):
    """Queries of one tenant to be read in one snapshot; the answer names the ticket."""

    ticket: int
    tenant: str
    wanted: list[Wanted]


class Landing(Struct, frozen=True):
    """A read that has come back: what its snapshot saw, the position that the stream must reach before it can be used,
    and the answers, in the order wanted."""

    visibility: Sight
    bound: int
    answers: list[Answer]


class _Reading(Struct):
    asked_at: int
    tenant: str
    queries: list[LiveQuery]
    landing: Landing | None = None


def rows_to_read(plan: Plan) -> int:
    """One row more than is kept tells whether there are others behind."""
    return plan.limit + slack(plan.limit) + 1 if isinstance(plan, KeyedPlan) else 0


class Reads:
    """Invariant: a query is owed or in one read under way, never both; `_urgent` names those of `_owed` that go first.
    Times are the engine's own count of events."""

    def __init__(self) -> None:
        self._tickets = 0
        self._owed: dict[str, dict[LiveQuery, None]] = {}
        self._urgent: dict[str, dict[LiveQuery, None]] = {}
        self._under_way: dict[int, _Reading] = {}
        self._at_once: Counter[str] = Counter()
        self._looks: dict[int, tuple[int, int]] = {}

    @property
    def owed(self) -> int:
        return sum(map(len, self._owed.values()))

    @property
    def under_way(self) -> int:
        return len(self._under_way)

    @property
    def awaited(self) -> int | None:
        """The least position that a read which has come back waits for; None when none waits."""
        bounds = [reading.landing.bound for reading in self._under_way.values() if reading.landing is not None]
        return min(bounds, default=None)

    def owe(self, query: LiveQuery) -> None:
        """This query must be read. One that is being read is looked at again when that read lands."""
        if query.reading is None:
            self._owed.setdefault(query.identity.tenant, {})[query] = None
            if query.plan.urgent:
                self._urgent.setdefault(query.identity.tenant, {})[query] = None

    def drop(self, query: LiveQuery) -> None:
        """Nobody wants it any more."""
        for queues in (self._owed, self._urgent):
            queue = queues.get(query.identity.tenant)
            if queue is not None:
                queue.pop(query, None)
                if not queue:
                    del queues[query.identity.tenant]

    def next(self, now: int) -> Read | None:
        """A batch of queries to read, or None. Queries that a session holds together are read together: two results
        from two snapshots might never be true at one position in a storm."""
        if not self._owed:
            return None
        # Tenants take turns: one with very much to read delays each of the others by one batch at a time; and none has
        # so many reads under way, which may be slow ones, that no other could begin.
        tenant = next((each for each in self._owed if self._at_once[each] < AT_ONCE), None)
        if tenant is None:
            return None
        owed = self._owed.pop(tenant)
        urgent = self._urgent.pop(tenant, {})
        batch: dict[LiveQuery, None] = {}
        reached: set[Session] = set()
        for seed in chain(urgent, owed):
            frontier = [seed]
            while frontier and len(batch) < BATCH:
                query = frontier.pop()
                if query in batch or query not in owed:
                    continue
                batch[query] = None
                for session in query.subscribers:
                    if session not in reached:
                        reached.add(session)
                        frontier.extend(other for other in session.blocking if other not in batch)
            if len(batch) >= BATCH:
                break
        self._tickets += 1
        for query in batch:
            del owed[query]
            urgent.pop(query, None)
            query.reading = self._tickets
        if owed:
            self._owed[tenant] = owed
        if urgent:
            self._urgent[tenant] = urgent
        self._under_way[self._tickets] = _Reading(now, tenant, list(batch))
        self._at_once[tenant] += 1
        wanted = [
            Wanted(query.number, query.identity, query.plan, rows_to_read(query.plan), query.dirty_since)
            for query in batch
        ]
        return Read(self._tickets, tenant, wanted)

    def landed(self, ticket: int, visibility: Sight, bound: int, answers: Sequence[Answer]) -> bool:
        """A read has come back; False when it is of no use any more."""
        reading = self._under_way.get(ticket)
        if reading is not None:
            self._came_back(reading)
        if reading is None or not reading.queries:
            self._under_way.pop(ticket, None)
            return False
        reading.landing = Landing(visibility, bound, list(answers))
        return True

    def postponed(self, ticket: int) -> None:
        """The read could not be done now; its queries are owed again."""
        self._give_back(self.take(ticket))

    def take(self, ticket: int) -> list[LiveQuery]:
        """The queries of a read that is over, without a landing."""
        reading = self._under_way.pop(ticket, None)
        if reading is not None:
            self._came_back(reading)
        queries = reading.queries if reading is not None else []
        for query in queries:
            query.reading = None
        return queries

    def ready(self, position: int) -> list[tuple[Landing, list[LiveQuery]]]:
        """Takes out the reads whose bound the stream has reached."""
        found = [
            (ticket, reading.landing, reading.queries)
            for ticket, reading in self._under_way.items()
            if reading.landing is not None and reading.landing.bound <= position
        ]
        for ticket, _, queries in found:
            del self._under_way[ticket]
            for query in queries:
                query.reading = None
        return [(landing, queries) for _, landing, queries in found]

    def look(self, now: int, position: int) -> int:
        """A read that is no live query's begins."""
        self._tickets += 1
        self._looks[self._tickets] = (now, position)
        return self._tickets

    def look_away(self, ticket: int) -> int | None:
        """It is over. The position when it began; None when it was forgotten since."""
        _, position = self._looks.pop(ticket, (0, None))
        return position

    def forget(self) -> None:
        """What the reads under way saw can't be used: their queries are owed again."""
        self._looks.clear()
        for ticket, reading in list(self._under_way.items()):
            self._give_back(reading.queries)
            reading.queries = []
            if reading.landing is not None:
                del self._under_way[ticket]

    def oldest(self, now: int) -> int:
        """When the oldest read under way was asked for; just after `now` when there is none."""
        oldest_read = min((reading.asked_at for reading in self._under_way.values()), default=now + 1)
        # Looks are kept in the order in which they began.
        oldest_look, _ = next(iter(self._looks.values()), (now + 1, 0))
        return min(oldest_read, oldest_look)

    def _came_back(self, reading: _Reading) -> None:
        self._at_once[reading.tenant] -= 1
        if not self._at_once[reading.tenant]:
            del self._at_once[reading.tenant]

    def _give_back(self, queries: list[LiveQuery]) -> None:
        for query in queries:
            query.reading = None
            if query.held:
                self.owe(query)
