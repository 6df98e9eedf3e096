"""The live engine: commits and frames in, frames and reads out. Pure; it tells what it owes, the shell does it.

The shell's whole conversation with it:
- in: `join`, `leave`, `subscribe`, `unsubscribe`, `check`, `commit`, `watermark`, `beat`, `down`, `gap`, `up`, and
  for each read that it asked for `landed`, `postponed` or `failed`; `look` and `looked` around a read that is no live
  query's; `park` and `unpark` around the time in which a client takes nothing; `doubt` and `trust` around the one in
  which it is not known what its client may see, with `announce`, `replan` and `revoke` in between;
- out: `take_outgoing()` (which frames go to which sessions, in order), `next_read()` (which queries to read, all of a
  batch in one snapshot) and `awaited` (a position that the change stream should reach soon).

How a read becomes exact is told in `settle.py`. While a query is behind, sessions that hold it are not shown anything
from there on, so that all queries of a session always move together.
"""

from collections.abc import Sequence

import msgspec

from bonfire.engine.checks import Checks
from bonfire.engine.commit import Commit, RowChange
from bonfire.engine.delivery import Delivery, Outgoing
from bonfire.engine.frames import SharedFrame
from bonfire.engine.history import Digest, History
from bonfire.engine.index import QueryIndex
from bonfire.engine.parts import PART_BYTES
from bonfire.engine.query import LiveQuery, Plan, QueryIdentity
from bonfire.engine.reads import Answer, Read, Reads
from bonfire.engine.retained import ENTRIES, Retained
from bonfire.engine.rota import SHARES, Rota
from bonfire.engine.session import Session
from bonfire.engine.settle import settle
from bonfire.engine.showing import Showing
from bonfire.engine.telling import Telling
from bonfire.engine.view import Window
from bonfire.engine.visibility import Sight
from bonfire_protocol.down import Stale, Unsubscribed, Watermark
from bonfire_protocol.faults import Fault, FaultCode
from bonfire_protocol.values import format_position

_UNREADABLE = (msgspec.DecodeError, TypeError, ValueError, ArithmeticError)
"""What a row without an id raises, or one whose value has no place among the others."""


class LiveEngine:
    """See the module. One per node; not thread-safe. `part_bytes` bounds the rows in one frame; `retained` how many
    changes are kept for those who come back."""

    def __init__(self, position: int, *, part_bytes: int = PART_BYTES, retained: int = ENTRIES) -> None:
        self.position = position
        self.is_down = False
        self._events = 0
        self._sessions: dict[Session, None] = {}
        self._rota = Rota()
        self._queries = QueryIndex()
        self._reads = Reads()
        self._history = History()
        self._delivery = Delivery(SHARES * 3 // 4)
        self._retained = Retained(position, retained)
        self._telling = Telling(self._retained, part_bytes)
        self._showing = Showing(self._delivery, self._telling)
        self.checks = Checks(self._sessions, self._delivery, self._telling)

    # ---- what the engine owes -------------------------------------------------------------------------------

    def take_outgoing(self) -> list[Outgoing]:
        return self._delivery.take()

    @property
    def awaited(self) -> int | None:
        """The least position that a read which has come back waits for; None when none waits."""
        return self._reads.awaited

    def sessions(self) -> list[Session]:
        return list(self._sessions)

    @property
    def counts(self) -> dict[str, int]:
        """For the metrics page: how many there are of each, and how often each has happened."""
        return {
            "sessions": len(self._sessions),
            "live_queries": len(self._queries),
            "reads": self._reads.under_way,
            "reads_owed": self._reads.owed,
            "recent_commits": len(self._history),
            "retained_changes": len(self._retained),
            "resumes": self._telling.resumes,
            "conflations": self._showing.conflations,
        }

    def next_read(self) -> Read | None:
        """A batch of queries to read in one snapshot, or None."""
        return None if self.is_down else self._reads.next(self._events)

    # ---- sessions -------------------------------------------------------------------------------------------

    def join(self, key: object, tenant: str, *, since: int | None = None, vouched: bool = True) -> Session:
        """A client is there. `key` is the shell's own name for the connection. `since`: the position at which it holds
        the results of the queries that it resumes. `vouched`: the change stream has given word lately that it keeps
        up."""
        session = Session(key, tenant, self.position, since)
        self._sessions[session] = None
        self._rota.join(session)
        if self.is_down:
            self._delivery.send([SharedFrame(Stale("the server has lost sight of the database"))], [session])
        elif not vouched:
            self._delivery.send([SharedFrame(Stale("the change stream has been silent for a while"))], [session])
        return session

    def leave(self, session: Session) -> None:
        """The client is gone; nothing is owed to it any more."""
        self._sessions.pop(session, None)
        self._rota.leave(session)
        subscriptions = list(session.subscriptions.items())
        session.subscriptions.clear()
        session.blocking.clear()
        session.held.clear()
        for subscription, query in subscriptions:
            query.audience = None
            query.subscribers.pop(session, None)
            query.waiting.pop((session, subscription), None)
            self._drop_if_unheld(query)

    def subscribe(
        self, session: Session, subscription: str, identity: QueryIdentity, plan: Plan, *, resume: bool = False
    ) -> None:
        """Hold a live query. `resume`: the client holds its result as of the position from which the session resumes.
        Fault `duplicate_id` when the session has an open subscription of that id."""
        if subscription in session.subscriptions:
            raise Fault(
                FaultCode.duplicate_id,
                "this connection has an open subscription with that id",
                field="id",
                expected="an id that is not in use on this connection",
            )
        query = self._queries.find(identity)
        if query is None:
            query = self._queries.add(identity, plan)
            self._reads.owe(query)
        session.subscriptions[subscription] = query
        if resume and session.since is not None:
            session.resuming.add(subscription)
        if query.result is not None and query.dirty_since is None and not self.is_down:
            self._showing.first_words(query, [(session, subscription)], self.position)
        else:
            # `subscribed` is said only of what is live: not while the query is behind, not while the stream is cut.
            query.waiting[session, subscription] = None

    def unsubscribe(self, session: Session, subscription: str) -> None:
        """Let it go. Fault `not_found` when there is none of that id."""
        query = session.subscriptions.pop(subscription, None)
        if query is None:
            raise _no_subscription("id")
        self._delivery.send([SharedFrame(Unsubscribed(subscription))], [session])
        self._let_go(session, query, subscription)

    # ---- what a client may see ------------------------------------------------------------------------------

    def doubt(self, session: Session, position: int) -> None:
        """What this client may see from `position` on (that of the commit which comes next, or the engine's own) is not
        known: it is shown nothing from there on, until `trust`."""
        if session in self._sessions:
            session.doubt(position)

    def replan(self, session: Session, subscription: str, identity: QueryIdentity, plan: Plan) -> None:
        """The client may see more or less of what it subscribed to than before: this subscription is one to another
        live query from the doubted position on, and is told as such. Without effect where it is the same one."""
        old = session.subscriptions[subscription]
        if old.identity == identity and old in self._queries:
            return
        assert session.doubted_from is not None
        # Where the old result is not known already, nothing may be shown without the new one.
        start = min(session.doubted_from, session.blocking.get(old, session.doubted_from))
        self._detach(session, old, subscription, start)
        query = self._queries.find(identity)
        if query is None:
            query = self._queries.add(identity, plan)
            self._reads.owe(query)
        session.subscriptions[subscription] = query
        if query.result is not None and query.dirty_since is None and not self.is_down:
            query.hold(session, subscription)
            session.merge(start, self.position, self._telling.subscribed(query, session, subscription, self.position))
        else:
            session.block(query, min(start, session.blocking.get(query, start)))
            query.waiting[session, subscription] = None
        # Last: what the old one has held up goes on with the new one only.
        self._free(session, old, start)

    def revoke(self, session: Session, subscription: str, fault: Fault) -> None:
        """The client may see nothing of this any more: nothing of it that waits is shown, and it is told at once."""
        query = session.subscriptions.pop(subscription)
        # First: what this query has held up may go on without it.
        self._delivery.send([SharedFrame(Unsubscribed(subscription, fault.code, fault.message, fault.next))], [session])
        self._detach(session, query, subscription)
        # What was before that could be seen then; another subscription of it may go on from there.
        self._free(session, query, session.doubted_from or 0)

    def announce(self, session: Session, told: SharedFrame) -> None:
        """`told` says that what this client may see has changed: it goes out before anything from the doubted position
        on is shown, or along with it."""
        if session in self._sessions and not session.announce(self.position, told):
            self._delivery.send([told], [session])

    def trust(self, session: Session) -> None:
        """It is known what this client may see, and all its subscriptions are of that."""
        if session in self._sessions:
            session.trust()
            self._delivery.release(session)

    def _let_go(self, session: Session, query: LiveQuery, subscription: str) -> None:
        self._detach(session, query, subscription)
        self._free(session, query)

    def _detach(self, session: Session, query: LiveQuery, subscription: str, position: int = 0) -> None:
        """This subscription is none to the query any more; what is held of its beginning may be shown up to
        `position`."""
        query.audience = None
        ids = query.subscribers.get(session)
        if ids is not None and subscription in ids:
            ids.remove(subscription)
            if not ids:
                del query.subscribers[session]
        query.waiting.pop((session, subscription), None)
        session.forget(subscription, position)

    def _free(self, session: Session, query: LiveQuery, gone_from: int | None = None) -> None:
        """The query holds the session up no longer, if it has no subscription to it. `gone_from`: nor is what is held
        of it from this position on to be shown."""
        if query not in session.subscriptions.values():
            if gone_from is not None:
                session.drop(query.number, gone_from)
            session.unblock(query)
            self._delivery.release(session)
        self._drop_if_unheld(query)

    def _drop_if_unheld(self, query: LiveQuery) -> None:
        if not query.held and query in self._queries:
            self._queries.drop(query)
            self._reads.drop(query)
            self.checks.end(query, "unknown", self.position)

    def await_answer(self, session: Session, position: int) -> None:
        """The commit at `position`, which comes next, is this client's own, and its answer is not out: show it nothing
        from there on."""
        session.await_answer(position)

    def answered(self, session: Session) -> None:
        """The answer is out, or has taken too long."""
        session.await_answer(None)
        self._delivery.release(session)

    # ---- who does not keep up -------------------------------------------------------------------------------

    def park(self, session: Session) -> None:
        """The client takes nothing now: from here on nothing is kept for it but which of its queries change."""
        if not session.parked and session in self._sessions:
            session.park()

    def unpark(self, session: Session) -> None:
        """It takes things again: it is given the newest results of what has changed, in one transition."""
        if not session.parked or session not in self._sessions:
            return
        self._showing.newest(session, self.position)

    # ---- self-check -----------------------------------------------------------------------------------------

    def check(self, session: Session, check: str, subscription: str) -> None:
        """Compute this subscription's query afresh, and compare. Fault `not_found` when there is none of that id."""
        query = session.subscriptions.get(subscription)
        if query is None:
            raise _no_subscription("subscription")
        self.checks.begin(query, (session, check))
        self._reads.owe(query)

    def sample(self, choice: float) -> None:
        """Check one live query of all, at `choice` (from 0 up to 1) of their order."""
        query = self._queries.at(choice)
        if query is not None:
            self.checks.begin(query)
            self._reads.owe(query)

    # ---- the change stream ----------------------------------------------------------------------------------

    def commit(self, commit: Commit) -> None:
        """The next commit of the stream. Cost: its own rows, and the queries and sessions that it touches."""
        self._events += 1
        self.position = commit.position
        digest = Digest(commit)
        self._history.append(digest)
        self._retained.note(digest)
        changed: dict[LiveQuery, list[SharedFrame]] = {}
        for row_key, changes in digest.rows.items():
            for query in list(self._queries.keyed(row_key)):
                self._apply(query, changes, commit.position, changed)
        for row_key in sorted(digest.bulk):
            for query in self._queries.keyed(row_key):
                self._mark_dirty(query, commit.position)
        for query in self._queries.dependents(digest):
            self._mark_dirty(query, commit.position)
        if digest.reset:
            for query in self._queries.on_views(digest.reset):
                self._mark_dirty(query, commit.position)
        self._delivery.fan_out(changed, commit.position)
        self._land()

    def _apply(
        self, query: LiveQuery, changes: list[RowChange], position: int, changed: dict[LiveQuery, list[SharedFrame]]
    ) -> None:
        if not isinstance(query.result, Window) or query.dirty_since is not None:
            # Loading or dirty: the history holds this commit until the read has landed.
            return
        try:
            change = query.result.apply(changes)
        except _UNREADABLE as error:
            # Nobody else's commit may be lost to one row that makes no sense; its result is not known any more.
            self._end(query, _unreadable(error))
            return
        more = query.more
        query.more = query.result.more
        query.snapshot_parts.clear()
        if query.result.short:
            # The window lost more rows than it kept behind it; what it shows at this position must be read.
            self._mark_dirty(query, position)
        if change or query.more != more:
            changed[query] = self._telling.changed(query, change)

    def _mark_dirty(self, query: LiveQuery, position: int) -> None:
        if query.result is None or query.dirty_since is not None:
            return
        query.dirty_since = position
        for session in query.subscribers:
            session.block(query, position)
        self._reads.owe(query)

    def watermark(self, position: int) -> None:
        """Every commit up to `position` has been taken in."""
        if position > self.position:
            self._events += 1
            self.position = position
        self._land()

    def beat(self, *, vouched: bool) -> None:
        """A share of a heartbeat, to be called `SHARES` times in one, so that a commit never waits for more than a
        share of the sessions to be told. Who was told along with a transition is not told again. `vouched`: the change
        stream has given word lately that it keeps up."""
        self._rota.now += 1
        self._delivery.vouching = self._rota.now if vouched and not self.is_down else None
        if self._delivery.vouching is not None:
            self._confirm(self._rota.due())

    def confirm(self, session: Session, position: int) -> None:
        """What one session holds is true at `position` too: say so, unless it was shown something there or later."""
        if not session.free or self.is_down or position > self.position:
            return
        shown = max((query.shown_at for query in session.subscriptions.values()), default=0)
        if max(shown, session.position) < position:
            self._confirm([session])

    def _confirm(self, sessions: list[Session]) -> None:
        for session in sessions:
            session.position = self.position
        if sessions:
            self._delivery.send([SharedFrame(Watermark(format_position(self.position)))], sessions)

    def down(self, reason: str) -> None:
        """The change stream is cut: what the clients hold may be old from now on."""
        if not self.is_down:
            self.is_down = True
            self._delivery.send([SharedFrame(Stale(reason))], list(self._sessions))

    def gap(self) -> None:
        """Commits may have been lost: everything must be read afresh before anything is shown again."""
        self._events += 1
        unknown_from = self.position + 1
        if self.is_down:
            # Every snapshot taken once the stream goes on sees all that it told of before it was cut.
            self._history.clear()
        else:
            # It goes on without a cut: the next snapshots may still miss its last commits.
            self._history.note_gap(self.position)
        self._reads.forget()
        self._retained.restart(self.position)
        for query in self._queries:
            self._mark_dirty(query, unknown_from)

    def up(self, position: int) -> None:
        """The change stream goes on; every commit after `position` will come. Those that have been missed meanwhile may
        be among them: nobody is told that what they hold is fresh until the stream has given word."""
        self._events += 1
        self.is_down = False
        if self._retained.since >= self.position:
            # There was a gap.
            self._retained.restart(max(self.position, position))
        self.position = max(self.position, position)
        for query in self._queries:
            if query.waiting and query.result is not None and query.dirty_since is None:
                waiting, query.waiting = query.waiting, {}
                self._showing.first_words(query, waiting, self.position)
        self._land()

    # ---- reads ----------------------------------------------------------------------------------------------

    def landed(self, ticket: int, visibility: Sight, bound: int, answers: Sequence[Answer]) -> None:
        """A read has come back: its snapshot's visibility, its bound, and an answer per query, in the order wanted."""
        self._events += 1
        if self._reads.landed(ticket, visibility, bound, answers):
            self._history.note_seen(visibility, self._events)
            self._land()

    def postponed(self, ticket: int) -> None:
        """The read could not be done now; it is owed again."""
        self._reads.postponed(ticket)

    def failed(self, ticket: int, fault: Fault) -> None:
        """The read can never be done: its queries end."""
        for query in self._reads.take(ticket):
            if query in self._queries:
                self._end(query, fault)

    def seen(self, visibility: Sight) -> None:
        """A snapshot taken for its own sake, now and then, lets the history shrink when nobody reads."""
        self._events += 1
        self._history.note_seen(visibility, self._events)
        self._prune()

    def look(self) -> int:
        """Somebody reads once, for their own sake: a ticket for `looked` or `look_away`. Until then the history keeps
        what that read might miss."""
        return self._reads.look(self._events, self.position)

    def looked(self, ticket: int, visibility: Sight) -> int | None:
        """A position that the read surely reflects: that of when it was asked for, or the last one before a commit that
        it did not see. None when there was a gap meanwhile: then nobody knows, and it must be done again."""
        asked_at = self._reads.look_away(ticket)
        if asked_at is None:
            return None
        unseen = self._history.unseen(visibility)
        return min(asked_at, unseen[0].position - 1) if unseen else asked_at

    def look_away(self, ticket: int) -> None:
        """The read has come to nothing. Without effect after `looked`."""
        self._reads.look_away(ticket)

    def _land(self) -> None:
        if self.is_down:
            return
        ready = self._reads.ready(self.position)
        for landing, queries in ready:
            unseen = self._history.unseen(landing.visibility)
            touched: dict[Session, None] = {}
            for query, answer in zip(queries, landing.answers, strict=True):
                if query not in self._queries:
                    continue
                if isinstance(answer, Fault):
                    self._end(query, answer)
                    continue
                try:
                    settled = settle(query, answer, landing.visibility, unseen, self._history)
                except _UNREADABLE as error:
                    self._end(query, _unreadable(error))
                    continue
                if settled is None:
                    self._reads.owe(query)
                elif query.result is not None and query.dirty_since is None:
                    self.checks.compare(query, settled, self.position)
                else:
                    self._showing.result(query, settled, self.position, touched)
                    if query.dirty_since is not None:
                        self._reads.owe(query)
                    self.checks.end(query, "unknown", self.position)
            for session in touched:
                self._delivery.release(session)
        if ready:
            self._prune()

    def _prune(self) -> None:
        self._history.prune(self._reads.oldest(self._events))

    def _end(self, query: LiveQuery, fault: Fault) -> None:
        """The query can't be kept true: everybody who holds it is told, and nobody is held up by it."""
        held = [(session, name) for session, names in query.subscribers.items() for name in names]
        held.extend(query.waiting)
        query.subscribers = {}
        query.waiting = {}
        query.audience = None
        for session, subscription in held:
            session.subscriptions.pop(subscription, None)
            session.unblock(query)
            session.forget(subscription)
            self._delivery.send(
                [SharedFrame(Unsubscribed(subscription, fault.code, fault.message, fault.next))], [session]
            )
        # Only now: who holds it under two names must not be shown anything between the ends of the two.
        for session in dict.fromkeys(session for session, _ in held):
            self._delivery.release(session)
        self._drop_if_unheld(query)


def _no_subscription(field: str) -> Fault:
    return Fault(
        FaultCode.not_found,
        "this connection has no open subscription with that id",
        field=field,
        expected="the id of an open subscription",
    )


def _unreadable(error: Exception) -> Fault:
    # The error's class alone: its text may quote the row.
    return Fault(FaultCode.query_failed, f"a row of this result makes no sense to the server ({type(error).__name__})")
