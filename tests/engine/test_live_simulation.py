"""The engine against a simulated Postgres, thousands of schedules: no socket, no sleep, no database.

The simulation keeps what makes Postgres hard: a commit has a place in the WAL, and apart from it a moment at which
snapshots begin to see it and a moment at which the stream delivers it; transaction ids are not in commit order; a read
takes its snapshot at any moment between being asked for and coming back. At each transition that a client is
shown, each of its live queries must equal the truth at exactly that position.

Two tenants share every key and every name; a commit may write rows of both, one row several times, rows that tie or
have no value in the order, or so many that it carries none of them. Reads fail, come late, or come back from before a
gap. Clients stop reading for a while, wait for their own answers, go and come back with what they held, and have
results checked, which must always be the same. Commits change what a client may see of what it holds: from their
positions on it is shown that, and nothing else.
"""

import json
import random
from collections import Counter
from dataclasses import dataclass, field

import msgspec
import pytest
from msgspec import Raw

from bonfire.engine.commit import Commit, Message, RowChange, ViewChange
from bonfire.engine.live import LiveEngine
from bonfire.engine.query import AppPlan, KeyedPlan, Plan, QueryIdentity
from bonfire.engine.reads import AT_ONCE, Answer, Read, Wanted
from bonfire.engine.rota import SHARES
from bonfire.engine.session import Session
from bonfire.engine.visibility import Visibility
from bonfire_protocol.down import (
    Checked,
    Patch,
    Resumed,
    Snapshot,
    Stale,
    Subscribed,
    Transition,
    Unsubscribed,
    Watermark,
)
from bonfire_protocol.faults import Fault, FaultCode
from bonfire_protocol.values import parse_position

KEYS = ["a", "b", "c"]
TENANTS = ["t", "u"]
ORDER = (("n", True),)
Value = tuple[str, int | None]
"""(key, n)."""

Rows = dict[str, Value]
"""id -> value. An id begins with its tenant."""


@dataclass
class Transaction:
    position: int
    xid: int
    writes: dict[str, list[Value | None]]
    before: dict[str, Value | None]
    state: Rows
    visible: bool = False


def _name_of(plan: Plan) -> str:
    return next(name for name, one in PLANS.items() if one is plan)


def row(row_id: str, value: Value) -> bytes:
    return json.dumps({"id": row_id, "key": value[0], "n": value[1]}).encode()


def of(state: Rows, tenant: str, key: str | None) -> Rows:
    return {row_id: value for row_id, value in state.items() if row_id[0] == tenant and key in (None, value[0])}


def rows_of(state: Rows, tenant: str, key: str | None) -> list[bytes]:
    """In order: n descending, rows without one last, ties by id."""
    rows = of(state, tenant, key).items()
    in_order = sorted(rows, key=lambda item: (item[1][1] is None, -(item[1][1] or 0), item[0]))
    return [row(row_id, value) for row_id, value in in_order]


def answer(plan: Plan, state: Rows, tenant: str) -> list[bytes]:
    """The truth: a plan's result in a state."""
    match plan:
        case KeyedPlan(key=key, limit=limit):
            return rows_of(state, tenant, key)[:limit]
        case AppPlan(shape="one", dependencies=((_, key),)):
            return [json.dumps({"sum": sum(n or 0 for _, n in of(state, tenant, key).values())}).encode()]
        case AppPlan(dependencies=((_, key),)):
            return [raw for raw in rows_of(state, tenant, key) if (json.loads(raw)["n"] or 1) % 2 == 0]
    raise AssertionError


def goes_on(plan: Plan, state: Rows, tenant: str) -> bool:
    """The truth: whether there are rows behind the plan's window."""
    return isinstance(plan, KeyedPlan) and len(of(state, tenant, plan.key)) > plan.limit


PLANS: dict[str, Plan] = {
    **{f"keyed-{key}-{limit}": KeyedPlan("view", key, limit, ORDER) for key in KEYS for limit in (1, 3, 50)},
    **{f"even-{key}": AppPlan((("S", key),), "list", identified=True) for key in (*KEYS, None)},
    **{f"sum-{key}": AppPlan((("S", key),), "one", identified=False) for key in (*KEYS, None)},
}


@dataclass
class Client:
    """Does what the protocol tells a client to do, and nothing else."""

    session: Session
    plans: dict[str, Plan] = field(default_factory=dict)
    queries: dict[str, int] = field(default_factory=dict)
    results: dict[int, list[bytes]] = field(default_factory=dict)
    more: dict[int, bool] = field(default_factory=dict)
    parts: list[Subscribed | Resumed | Snapshot | Patch] = field(default_factory=list)
    position: int = 0
    stale: bool = False
    kept: dict[str, list[bytes]] = field(default_factory=dict)
    """By subscription, what it held before it went and came back."""
    doubted: int | None = None
    """From this position on nobody knows yet what it may see."""
    changed: dict[str, list[tuple[int, Plan, int]]] = field(default_factory=dict)
    """By subscription, what it may see of it from each position on, and the number of that live query."""

    def take(self, frame: object, world: "World") -> None:
        match frame:
            case Subscribed() | Resumed() | Snapshot() | Patch():
                self.parts.append(frame)
            case Transition(position=position):
                for part in self.parts:
                    self.apply(part)
                self.parts = []
                self.check(parse_position(position), world)
            case Watermark(position=position):
                assert not self.parts
                self.check(parse_position(position), world)
            case Checked(outcome=outcome):
                assert outcome != "differed", "what was sent is what is true"
                world.checked[outcome] += 1
            case Stale():
                self.stale = True
            case Unsubscribed(id=name, code=code):
                if code is not None:
                    del self.plans[name]
                    self.changed.pop(name, None)
                query = self.queries.pop(name, None)
                if query is not None and query not in self.queries.values():
                    del self.results[query]
            case _:
                raise AssertionError(frame)

    def apply(self, part: Subscribed | Resumed | Snapshot | Patch) -> None:
        match part:
            case Resumed(id=name, query=query, remove=remove, put=put, length=length):
                self.queries[name] = query
                gone = {*remove, *(json.loads(bytes(p.row))["id"] for p in put)}
                rows_now = [raw for raw in self.kept[name] if not gone or json.loads(raw)["id"] not in gone]
                for p in put:
                    assert p.at <= len(rows_now)
                    rows_now.insert(p.at, bytes(p.row))
                assert len(rows_now) >= length
                self.results[query] = rows_now[:length]
            case Subscribed(id=name, query=query, rows=rows):
                before = self.queries.get(name)
                self.queries[name] = query
                changes = self.changed.get(name, [])
                while query in [number for _, _, number in changes]:
                    # It may come a little sooner, by the rights of a commit that is still to be shown.
                    _, self.plans[name], _ = changes.pop(0)
                self.results[query] = [bytes(raw) for raw in rows]
                if before is not None and before not in self.queries.values():
                    del self.results[before]
            case Snapshot(query=query, rows=rows):
                if query not in self.results:
                    return  # of a query that this client has let go
                self.results[query] = [bytes(raw) for raw in rows]
            case Patch(query=query, remove=remove, put=put):
                if query not in self.results:
                    return
                held = {json.loads(raw)["id"] for raw in self.results[query]}
                assert held.issuperset(remove), "what is removed is there"
                gone = {*remove, *(json.loads(bytes(p.row))["id"] for p in put)}
                rows_now = [raw for raw in self.results[query] if json.loads(raw)["id"] not in gone]
                for p in put:
                    assert p.at <= len(rows_now)
                    rows_now.insert(p.at, bytes(p.row))
                self.results[query] = rows_now
        self.more[part.query] = part.more

    def check(self, position: int, world: "World") -> None:
        assert position >= self.position, "a client never goes back"
        assert self.doubted is None or position < self.doubted, "what it may see there is not known"
        for name, changes in self.changed.items():
            while changes and position >= changes[0][0]:
                _, self.plans[name], _ = changes.pop(0)
        self.position = position
        self.stale = False
        state = world.state_at(position)
        for name, query in self.queries.items():
            if name in self.plans:
                plan, tenant = self.plans[name], self.session.tenant
                assert self.results[query] == answer(plan, state, tenant), (name, position)
                assert self.more[query] == goes_on(plan, state, tenant), (name, position)
            else:
                raise AssertionError(f"{name} was let go, and came after all")


@dataclass
class Outstanding:
    read: Read
    taken: tuple[Visibility, int, Rows] | None = None


class World:
    """A Postgres of one table, and the shell that stands between it and the engine."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.log: list[Transaction] = []
        self.delivered = 0
        self.position = 1000
        self.open_xids: list[int] = []
        self.next_xid = 100
        self.start = self.position
        # Frames of a few rows each, and a memory of a few changes.
        self.engine = LiveEngine(
            self.start, part_bytes=self.random.choice([1, 100, 10_000]), retained=self.random.choice([3, 30, 3000])
        )
        self.checked: Counter[str] = Counter()
        self.decided: Counter[str] = Counter()
        self.clients: list[Client] = []
        self.reads: list[Outstanding] = []
        self.names = 0
        self.rough = False

    # ---- the database

    def state_at(self, position: int) -> Rows:
        state: Rows = {}
        for transaction in self.log:
            if transaction.position > position:
                break
            state = transaction.state
        return state

    def visible_state(self) -> Rows:
        state: Rows = {}
        for transaction in self.log:
            if transaction.visible:
                for row_id, values in transaction.writes.items():
                    if values[-1] is None:
                        state.pop(row_id, None)
                    else:
                        state[row_id] = values[-1]
        return state

    def begin(self) -> None:
        if len(self.open_xids) < 4:
            self.open_xids.append(self.next_xid)
            self.next_xid += 1

    def commit(self) -> None:
        self.begin()
        xid = self.open_xids.pop(self.random.randrange(len(self.open_xids)))
        # The lock on a row is given up after the commit can be seen: nobody writes a row with an unseen last writer.
        locked = {row_id for transaction in self.log if not transaction.visible for row_id in transaction.writes}
        state = dict(self.log[-1].state) if self.log else {}
        before: dict[str, Value | None] = {}
        writes: dict[str, list[Value | None]] = {}
        for _ in range(self.random.choice([1, 1, 1, 2, 5, 30])):
            row_id = f"{self.random.choice('tttu')}{self.random.randrange(60)}"
            if row_id in locked:
                continue
            before.setdefault(row_id, state.get(row_id))
            if self.random.random() < 0.45:
                if row_id in state:
                    del state[row_id]
                    writes.setdefault(row_id, []).append(None)
            else:
                state[row_id] = (self.random.choice(KEYS), self.random.choice([None, *range(12)]))
                writes.setdefault(row_id, []).append(state[row_id])
        self.position += self.random.randrange(1, 50)
        self.log.append(Transaction(self.position, xid, writes, before, state))

    def see(self) -> None:
        hidden = [transaction for transaction in self.log if not transaction.visible]
        if hidden:
            self.random.choice(hidden[:3]).visible = True

    def snapshot(self) -> tuple[Visibility, int, Rows]:
        hidden = frozenset(t.xid for t in self.log if not t.visible) | frozenset(self.open_xids)
        visibility = Visibility(min(hidden, default=self.next_xid), self.next_xid, hidden)
        bound = max((t.position for t in self.log if t.visible), default=self.start)
        return visibility, bound, self.visible_state()

    # ---- the stream and the shell

    def deliver(self) -> None:
        if self.engine.is_down or self.delivered >= len(self.log):
            return
        transaction = self.log[self.delivered]
        self.delivered += 1
        messages = self.messages(transaction)
        bulk: frozenset[tuple[str, str, str]] = frozenset()
        if self.random.random() < 0.05:
            # Too large to carry its rows.
            bulk = frozenset(
                (message.tenant or "", change.view, key)
                for message in messages
                for change in message.views
                for changed in change.rows
                for key in (changed.key, changed.old_key)
                if key is not None
            )
            messages = [msgspec.structs.replace(message, views=[]) for message in messages]
        author = self.random.choice(self.clients) if self.clients and self.random.random() < 0.1 else None
        if author is not None:
            self.engine.await_answer(author.session, transaction.position)
        if self.clients and self.random.random() < 0.1:
            self.doubt(self.random.choice(self.clients), transaction.position)
        self.engine.commit(Commit(transaction.position, transaction.xid, messages, bulk=bulk))

    # ---- what clients may see

    def doubt(self, client: Client, position: int) -> None:
        """The commit at `position` changes what this client may see."""
        if client.doubted is None:
            client.doubted = position
        self.engine.doubt(client.session, position)

    def decide(self) -> None:
        """It is known what a client may see: as much as before, something else, or nothing."""
        doubtful = [client for client in self.clients if client.doubted is not None]
        if doubtful and self.random.random() < 0.5:
            self.settle_doubt(self.random.choice(doubtful))

    def settle_doubt(self, client: Client) -> None:
        since = client.doubted
        assert since is not None
        for name in list(client.session.subscriptions):
            chance = self.random.random()
            if chance < 0.3:
                self.engine.revoke(client.session, name, Fault(FaultCode.forbidden, "not any more"))
                self.decided["revoked"] += 1
                continue
            changes = client.changed.setdefault(name, [])
            plan = changes[-1][1] if changes else client.plans[name]
            if chance < 0.8:
                plan = PLANS[self.random.choice(list(PLANS))]
                self.decided["changed"] += 1
            identity = QueryIdentity(client.session.tenant, _name_of(plan), b"{}", "all")
            # Where the old result is not known already, the new one takes its place from there.
            held_from = client.session.blocking.get(client.session.subscriptions[name], since)
            self.engine.replan(client.session, name, identity, plan)
            number = client.session.subscriptions[name].number
            changes.append((min(since, held_from), plan, number))
        client.doubted = None
        self.engine.trust(client.session)

    def answer_mutation(self) -> None:
        if self.clients:
            self.engine.answered(self.random.choice(self.clients).session)

    def stall(self) -> None:
        if self.clients and self.random.random() < 0.5:
            self.engine.park(self.random.choice(self.clients).session)

    def read_on(self) -> None:
        if self.clients:
            self.engine.unpark(self.random.choice(self.clients).session)

    def check_result(self) -> None:
        client = self.random.choice(self.clients) if self.clients else None
        if client is not None and client.plans:
            self.engine.check(client.session, "c", self.random.choice(list(client.plans)))
        self.engine.sample(self.random.random())

    def come_back(self) -> None:
        """A client is cut off, and comes back, here or after a while, with what it held."""
        gone = [client for client in self.clients if client.position and client.doubted is None and not client.changed]
        if not gone or self.engine.is_down or self.random.random() < 0.5:
            return
        old = self.random.choice(gone)
        self.engine.leave(old.session)
        self.clients.remove(old)
        for _ in range(self.random.choice([0, 0, 3, 10])):
            self.random.choice([self.commit, self.see, self.deliver])()
            self.flush()
        if self.engine.position < old.position:
            return
        client = Client(self.engine.join(object(), old.session.tenant, since=old.position))
        client.position = old.position
        self.clients.append(client)
        for name, plan in old.plans.items():
            held = name in old.queries
            self.names += 1
            again = f"s{self.names}"
            client.plans[again] = plan
            if held:
                client.kept[again] = old.results[old.queries[name]]
            identity = QueryIdentity(client.session.tenant, _name_of(plan), b"{}", "all")
            self.engine.subscribe(client.session, again, identity, plan, resume=held)

    def messages(self, transaction: Transaction) -> list[Message]:
        """One for each statement and tenant: the first write of each row, then the second ones, and so on."""
        messages: list[Message] = []
        for statement in range(max(map(len, transaction.writes.values()), default=0)):
            for tenant in TENANTS:
                changes: list[RowChange] = []
                patients: set[str] = set()
                for row_id, values in transaction.writes.items():
                    if row_id[0] != tenant or statement >= len(values):
                        continue
                    old = values[statement - 1] if statement else transaction.before[row_id]
                    value = values[statement]
                    patients.update(v[0] for v in (old, value) if v is not None)
                    if value is not None:
                        moved = old[0] if old is not None and old[0] != value[0] else None
                        changes.append(RowChange(value[0], row_id, moved, Raw(row(row_id, value))))
                    elif old is not None:
                        changes.append(RowChange(old[0], row_id, None, Raw(b"null")))
                many = None if len(patients) == 3 and self.random.random() < 0.5 else sorted(patients)
                if changes:
                    messages.append(Message(tenant, "S", many, [ViewChange("view", changes)]))
        if self.random.random() < 0.02:
            messages.append(Message(reset=["view"]))
        return messages

    def watermark(self) -> None:
        if self.engine.is_down:
            return
        limit = self.log[self.delivered].position - 1 if self.delivered < len(self.log) else self.position
        if limit >= self.engine.position:
            self.engine.watermark(self.random.randint(self.engine.position, limit))

    def ask(self) -> None:
        read = self.engine.next_read()
        if read is not None:
            under_way = [other for other in self.reads if other.read.tenant == read.tenant]
            assert len(under_way) < AT_ONCE, "no tenant takes all that there is"
            self.reads.append(Outstanding(read))

    def take_snapshot(self) -> None:
        waiting = [read for read in self.reads if read.taken is None]
        if waiting:
            self.random.choice(waiting).taken = self.snapshot()

    def land(self) -> None:
        ready = [read for read in self.reads if read.taken is not None]
        if not ready:
            return
        outstanding = self.random.choice(ready)
        self.reads.remove(outstanding)
        if self.random.random() < 0.05:
            self.engine.postponed(outstanding.read.ticket)
            return
        if self.random.random() < 0.01:
            self.engine.failed(outstanding.read.ticket, Fault(FaultCode.bad_arguments, "it can never be done"))
            return
        assert outstanding.taken is not None
        visibility, bound, state = outstanding.taken
        answers = [self.answer(wanted, state) for wanted in outstanding.read.wanted]
        self.engine.landed(outstanding.read.ticket, visibility, bound, answers)

    def answer(self, wanted: Wanted, state: Rows) -> Answer:
        if self.random.random() < 0.02:
            return Fault(FaultCode.query_failed, "it fails now and then")
        tenant = wanted.identity.tenant
        match wanted.plan:
            case KeyedPlan(key=key):
                return [Raw(raw) for raw in rows_of(state, tenant, key)[: wanted.rows]]
            case AppPlan():
                return [Raw(raw) for raw in answer(wanted.plan, state, tenant)]

    def seen(self) -> None:
        visibility, _, _ = self.snapshot()
        self.engine.seen(visibility)

    def cut(self) -> None:
        """The stream is lost; some commits pass unnoticed; it goes on behind them."""
        if self.random.random() > (0.7 if self.rough else 0.15):
            return
        self.engine.down("cut")
        for outstanding in self.reads:
            # A read from before the gap comes back behind it, or comes later and sees what the stream never told.
            if self.random.random() < 0.7:
                outstanding.taken = outstanding.taken or self.snapshot()
        for _ in range(self.random.randrange(4)):
            self.commit()
        for transaction in self.log:
            transaction.visible = True
        self.delivered = len(self.log)
        self.engine.gap()
        self.engine.up(self.position)

    def unreadable(self) -> None:
        """The next commit can't be read: everything is read afresh, while the stream goes on behind it."""
        if self.engine.is_down or self.delivered >= len(self.log) or self.random.random() > 0.3:
            return
        transaction = self.log[self.delivered]
        transaction.visible = True
        self.delivered += 1
        self.engine.gap()
        if self.random.random() < 0.5:
            self.ask()
        self.engine.up(transaction.position)

    def beat(self) -> None:
        self.engine.beat(vouched=self.random.random() < 0.8)

    def blink(self) -> None:
        """The stream is lost for a while, and nothing with it."""
        if not self.engine.is_down:
            self.engine.down("blink")
        else:
            self.engine.up(self.engine.position)

    # ---- clients

    def join(self) -> None:
        if len(self.clients) < 5:
            self.clients.append(Client(self.engine.join(object(), self.random.choice("ttu"))))

    def leave(self) -> None:
        if self.clients and self.random.random() < 0.2:
            self.engine.leave(self.clients.pop(self.random.randrange(len(self.clients))).session)

    def subscribe(self) -> None:
        if self.clients:
            client = self.random.choice(self.clients)
            plan_name = self.random.choice(list(PLANS))
            self.names += 1
            name = f"s{self.names}"
            client.plans[name] = PLANS[plan_name]
            identity = QueryIdentity(client.session.tenant, plan_name, b"{}", "all")
            self.engine.subscribe(client.session, name, identity, PLANS[plan_name])

    def unsubscribe(self) -> None:
        if self.clients:
            client = self.random.choice(self.clients)
            if client.plans:
                name = self.random.choice(list(client.plans))
                del client.plans[name]
                client.changed.pop(name, None)
                self.engine.unsubscribe(client.session, name)

    def flush(self) -> None:
        by_session = {client.session: client for client in self.clients}
        for outgoing in self.engine.take_outgoing():
            for session in outgoing.audience.sessions:
                if session in by_session:
                    for shared in outgoing.frames:
                        by_session[session].take(shared.frame, self)

    def run(self, steps: int, *, rough: bool = False) -> None:
        """`rough`: the stream is cut more often than not, and hardly anybody reads all the time."""
        self.rough = rough
        actions = [
            (self.begin, 2),
            (self.commit, 6),
            (self.see, 8),
            (self.deliver, 8),
            (self.watermark, 3),
            (self.ask, 6),
            (self.take_snapshot, 6),
            (self.land, 6),
            (self.seen, 2),
            (self.join, 2),
            (self.leave, 1),
            (self.subscribe, 4),
            (self.unsubscribe, 1),
            (self.cut, 1),
            (self.blink, 1),
            (self.unreadable, 1),
            (self.answer_mutation, 2),
            (self.stall, 4 if rough else 1),
            (self.read_on, 3 if rough else 2),
            (self.check_result, 1),
            (self.come_back, 1),
            (self.beat, 5),
            (self.decide, 3),
        ]
        calls, weights = [call for call, _ in actions], [weight for _, weight in actions]
        for _ in range(steps):
            # One at a time: a run of fewer steps is the beginning of one of more.
            self.random.choices(calls, weights)[0]()
            self.flush()
        self.settle()

    def settle(self) -> None:
        """All that is under way comes to its end: now everybody must see the newest state of all they asked for."""
        if self.engine.is_down:
            self.engine.up(self.engine.position)
        for transaction in self.log:
            transaction.visible = True
        while self.delivered < len(self.log):
            self.deliver()
        for client in self.clients:
            self.engine.answered(client.session)
            self.engine.unpark(client.session)
            if client.doubted is not None:
                self.flush()
                self.settle_doubt(client)
        for _ in range(200):
            self.ask()
            for read in self.reads:
                read.taken = read.taken or self.snapshot()
            while self.reads:
                self.land()
            self.engine.watermark(self.position)
            self.flush()
        for _ in range(2 * SHARES):
            self.engine.beat(vouched=True)
        self.flush()
        for client in self.clients:
            assert client.position == self.position, "nobody is left behind"
            assert set(client.plans) == set(client.queries), "everybody got what they asked for"
        self.seen()
        assert len(list(self.engine._history)) == 0, "the history is empty when nothing is under way"
        assert not self.engine.checks.differences


@pytest.mark.parametrize("block", range(20))
def test_every_transition_is_the_truth_at_its_position(block: int) -> None:
    for seed in range(block * 40, block * 40 + 40):
        try:
            World(seed).run(300)
        except BaseException:
            print(f"seed {seed}")
            raise


@pytest.mark.parametrize("block", range(6))
def test_the_same_on_rough_schedules(block: int) -> None:
    for seed in range(block * 40, block * 40 + 40):
        try:
            World(seed).run(500, rough=True)
        except BaseException:
            print(f"seed {seed}")
            raise


def test_the_schedules_reach_what_they_are_for() -> None:
    worlds = [World(seed) for seed in range(150)]
    for world in worlds:
        world.run(300)
    assert sum(world.engine.counts["resumes"] for world in worlds) > 5
    assert sum(world.engine.counts["conflations"] for world in worlds) > 30
    assert sum(world.checked["same"] for world in worlds) > 5
    assert sum(world.decided["revoked"] for world in worlds) > 100
    assert sum(world.decided["changed"] for world in worlds) > 100
