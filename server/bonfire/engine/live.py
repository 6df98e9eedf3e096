"""The live engine: commits and frames in, frames and reads out. Pure; it tells what it owes, the shell does it.

The shell's whole conversation with it:
- in: `join`, `leave`, `subscribe`, `unsubscribe`, `commit`, `watermark`, `heartbeat`, `down`, `gap`, `up`, and for each
  read that it asked for `landed`, `postponed` or `failed`; `look` and `looked` around a read that is no live query's;
- out: `take_outgoing()` (which frames go to which sessions, in order), `next_read()` (which queries to read, all of a
  batch in one snapshot) and `awaited` (a position that the change stream should reach soon).

How a read becomes exact is told in `settle.py`. While a query is behind, sessions that hold it are not shown anything
from there on, so that all queries of a session always move together.
"""

from collections.abc import Sequence

import msgspec

from bonfire.engine.commit import Commit, RowChange
from bonfire.engine.delivery import Delivery, Outgoing
from bonfire.engine.frames import SharedFrame
from bonfire.engine.history import Digest, History
from bonfire.engine.index import QueryIndex
from bonfire.engine.query import KeyedPlan, LiveQuery, Plan, QueryIdentity
from bonfire.engine.reads import Answer, Read, Reads
from bonfire.engine.session import Session
from bonfire.engine.settle import Settled, settle
from bonfire.engine.view import Row, Window, difference
from bonfire.engine.visibility import Visibility
from bonfire_protocol.down import Patch, Snapshot, Stale, Subscribed, Unsubscribed, Watermark
from bonfire_protocol.faults import Fault, FaultCode
from bonfire_protocol.values import format_position

KEPT_SNAPSHOTS = 8
"""Encoded snapshots that a live query keeps, each for the subscriptions of one name."""

_UNREADABLE = (msgspec.DecodeError, TypeError, ValueError, ArithmeticError)
"""What a row without an id raises, or one whose value has no place among the others."""


class LiveEngine:
    """See the module. One per node; not thread-safe."""

    def __init__(self, position: int) -> None:
        self.position = position
        self.is_down = False
        self._events = 0
        self._sessions: dict[Session, None] = {}
        self._queries = QueryIndex()
        self._reads = Reads()
        self._history = History()
        self._delivery = Delivery()

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
        """Sizes for the metrics page."""
        return {
            "sessions": len(self._sessions),
            "live_queries": len(self._queries),
            "reads": self._reads.under_way,
            "reads_owed": self._reads.owed,
            "recent_commits": len(self._history),
        }

    def next_read(self) -> Read | None:
        """A batch of queries to read in one snapshot, or None."""
        return None if self.is_down else self._reads.next(self._events)

    # ---- sessions -------------------------------------------------------------------------------------------

    def join(self, key: object, tenant: str, access: str) -> Session:
        """A client is there. `key` is the shell's own name for the connection."""
        session = Session(key, tenant, access, self.position)
        self._sessions[session] = None
        if self.is_down:
            self._delivery.send([SharedFrame(Stale("the server has lost sight of the database"))], [session])
        return session

    def leave(self, session: Session) -> None:
        """The client is gone; nothing is owed to it any more."""
        self._sessions.pop(session, None)
        subscriptions = list(session.subscriptions.items())
        session.subscriptions.clear()
        session.blocking.clear()
        session.held.clear()
        for subscription, query in subscriptions:
            query.subscribers.pop(session, None)
            query.waiting.pop((session, subscription), None)
            self._drop_if_unheld(query)

    def subscribe(self, session: Session, subscription: str, identity: QueryIdentity, plan: Plan) -> None:
        """Hold a live query. Fault `duplicate_id` when the session has an open subscription of that id."""
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
        if query.result is not None and query.dirty_since is None and not self.is_down:
            query.subscribers.setdefault(session, []).append(subscription)
            self._delivery.show(session, self.position, [self._subscribed(query, subscription, self.position)])
        else:
            # `subscribed` is said only of what is live: not while the query is behind, not while the stream is cut.
            query.waiting[session, subscription] = None

    def unsubscribe(self, session: Session, subscription: str) -> None:
        """Let it go. Fault `not_found` when there is none of that id."""
        query = session.subscriptions.pop(subscription, None)
        if query is None:
            raise Fault(
                FaultCode.not_found,
                "this connection has no open subscription with that id",
                field="id",
                expected="the id of an open subscription",
            )
        self._delivery.send([SharedFrame(Unsubscribed(subscription))], [session])
        self._let_go(session, query, subscription)

    def _let_go(self, session: Session, query: LiveQuery, subscription: str) -> None:
        ids = query.subscribers.get(session)
        if ids is not None and subscription in ids:
            ids.remove(subscription)
            if not ids:
                del query.subscribers[session]
        query.waiting.pop((session, subscription), None)
        session.forget(subscription)
        if query not in session.subscriptions.values():
            session.blocking.pop(query, None)
            self._delivery.release(session)
        self._drop_if_unheld(query)

    def _drop_if_unheld(self, query: LiveQuery) -> None:
        if not query.held and query in self._queries:
            self._queries.drop(query)
            self._reads.drop(query)

    # ---- the change stream ----------------------------------------------------------------------------------

    def commit(self, commit: Commit) -> None:
        """The next commit of the stream. Cost: its own rows, and the queries and sessions that it touches."""
        self._events += 1
        self.position = commit.position
        digest = Digest(commit)
        self._history.append(digest)
        changed: dict[LiveQuery, SharedFrame] = {}
        for row_key, changes in digest.rows.items():
            for query in list(self._queries.keyed(row_key)):
                self._apply(query, changes, commit.position, changed)
        for query in self._queries.dependents(digest):
            self._mark_dirty(query, commit.position)
        if digest.reset:
            for query in self._queries.on_views(digest.reset):
                self._mark_dirty(query, commit.position)
        self._delivery.fan_out(changed, commit.position)
        self._land()

    def _apply(
        self, query: LiveQuery, changes: list[RowChange], position: int, changed: dict[LiveQuery, SharedFrame]
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
            changed[query] = SharedFrame(Patch(query.number, change.remove, change.put, query.more))

    def _mark_dirty(self, query: LiveQuery, position: int) -> None:
        if query.result is None or query.dirty_since is not None:
            return
        query.dirty_since = position
        for session in query.subscribers:
            session.blocking[query] = position
        self._reads.owe(query)

    def watermark(self, position: int) -> None:
        """Every commit up to `position` has been taken in."""
        if position > self.position:
            self._events += 1
            self.position = position
        self._land()

    def heartbeat(self) -> None:
        """Tell every session that is not waiting for a read how far its data are true."""
        if self.is_down:
            return
        free = [session for session in self._sessions if session.free]
        for session in free:
            session.position = self.position
        if free:
            self._delivery.send([SharedFrame(Watermark(format_position(self.position)))], free)

    def confirm(self, session: Session) -> None:
        """Tell one session how far its data are true now, if it need not wait for a read."""
        if session.free and not self.is_down and session.position < self.position:
            session.position = self.position
            self._delivery.send([SharedFrame(Watermark(format_position(self.position)))], [session])

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
        for query in self._queries:
            self._mark_dirty(query, unknown_from)

    def up(self, position: int) -> None:
        """The change stream goes on; every commit after `position` will come."""
        self._events += 1
        self.is_down = False
        self.position = max(self.position, position)
        self.heartbeat()
        for query in self._queries:
            if query.waiting and query.result is not None and query.dirty_since is None:
                waiting, query.waiting = query.waiting, {}
                for session, subscription in waiting:
                    query.subscribers.setdefault(session, []).append(subscription)
                    self._delivery.show(session, self.position, [self._subscribed(query, subscription, self.position)])
        self._land()

    # ---- reads ----------------------------------------------------------------------------------------------

    def landed(self, ticket: int, visibility: Visibility, bound: int, answers: Sequence[Answer]) -> None:
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

    def seen(self, visibility: Visibility) -> None:
        """A snapshot taken for its own sake, now and then, lets the history shrink when nobody reads."""
        self._events += 1
        self._history.note_seen(visibility, self._events)
        self._prune()

    def look(self) -> int:
        """Somebody reads once, for their own sake: a ticket for `looked` or `look_away`. Until then the history keeps
        what that read might miss."""
        return self._reads.look(self._events, self.position)

    def looked(self, ticket: int, visibility: Visibility) -> int | None:
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
                else:
                    self._show(query, settled, touched)
            for session in touched:
                self._delivery.release(session)
        if ready:
            self._prune()

    def _prune(self) -> None:
        self._history.prune(self._reads.oldest(self._events))

    def _show(self, query: LiveQuery, settled: Settled, touched: dict[Session, None]) -> None:
        """The query's result is known from its first dirty position on, until it is not exact any more."""
        exact_until = settled.exact_until
        position = self.position if exact_until is None else exact_until - 1
        frame = self._change_frame(query, settled.rows, settled.more) if query.result is not None else None
        dirty_since = query.dirty_since
        query.result = settled.result
        query.more = settled.more
        query.dirty_since = exact_until
        query.snapshot_parts.clear()
        for session in query.subscribers:
            touched[session] = None
            if dirty_since is not None:
                session.merge(dirty_since, position, frame)
            if exact_until is None:
                session.blocking.pop(query, None)
            else:
                session.blocking[query] = exact_until
        waiting, query.waiting = query.waiting, {}
        for session, subscription in waiting:
            touched[session] = None
            self._admit(query, session, subscription, position, exact_until)
        if exact_until is not None:
            self._reads.owe(query)

    def _admit(
        self, query: LiveQuery, session: Session, subscription: str, position: int, exact_until: int | None
    ) -> None:
        """Tell a waiting session `subscribed`, at a position that fits what it is shown otherwise.

        A result that is behind already can't join a session that has gone on; such a session is held where it is
        from now on, so that the next result meets it.
        """
        held_from = session.blocking.get(query)
        if exact_until is None:
            query.subscribers.setdefault(session, []).append(subscription)
            part = self._subscribed(query, subscription, self.position)
            if held_from is not None:
                session.merge(held_from, self.position, part)
                del session.blocking[query]
            else:
                session.hold(self.position, [part])
        elif held_from is not None and exact_until > held_from and session not in query.subscribers:
            query.subscribers.setdefault(session, []).append(subscription)
            session.merge(held_from, position, self._subscribed(query, subscription, position))
            session.blocking[query] = exact_until
        elif session in query.subscribers:
            # It holds this query under another name, and moves with it.
            query.subscribers[session].append(subscription)
            session.merge(position, position, self._subscribed(query, subscription, position))
        else:
            session.blocking.setdefault(query, self.position + 1)
            query.waiting[session, subscription] = None

    def _change_frame(self, query: LiveQuery, rows: list[Row], more: bool) -> SharedFrame | None:
        """What takes the viewers from the old result to `rows`; None when nothing differs."""
        old = query.shown()
        if more == query.more and [bytes(row) for _, row in old] == [bytes(row) for _, row in rows]:
            return None
        identified = isinstance(query.plan, KeyedPlan) or query.plan.identified
        change = difference(old, rows) if identified else None
        if change is None:
            return SharedFrame(Snapshot(query.number, [row for _, row in rows], "changed", more))
        return SharedFrame(Patch(query.number, change.remove, change.put, more))

    def _end(self, query: LiveQuery, fault: Fault) -> None:
        """The query can't be kept true: everybody who holds it is told, and nobody is held up by it."""
        held = [(session, name) for session, names in query.subscribers.items() for name in names]
        held.extend(query.waiting)
        query.subscribers = {}
        query.waiting = {}
        for session, subscription in held:
            session.subscriptions.pop(subscription, None)
            session.blocking.pop(query, None)
            session.forget(subscription)
            self._delivery.send(
                [SharedFrame(Unsubscribed(subscription, fault.code, fault.message, fault.next))], [session]
            )
        # Only now: who holds it under two names must not be shown anything between the ends of the two.
        for session in dict.fromkeys(session for session, _ in held):
            self._delivery.release(session)
        self._drop_if_unheld(query)

    # ---- frames ---------------------------------------------------------------------------------------------

    def _subscribed(self, query: LiveQuery, subscription: str, position: int) -> SharedFrame:
        # Clients name subscriptions alike ("1", "2"): the snapshot is encoded once for all that chose the same name.
        frame = query.snapshot_parts.get(subscription)
        wire_position = format_position(position)
        if frame is None or not isinstance(frame.frame, Subscribed) or frame.frame.position != wire_position:
            rows = [row for _, row in query.shown()]
            frame = SharedFrame(Subscribed(subscription, query.number, wire_position, rows, query.shape, query.more))
            if len(query.snapshot_parts) >= KEPT_SNAPSHOTS:
                query.snapshot_parts.clear()
            query.snapshot_parts[subscription] = frame
        return frame


def _unreadable(error: Exception) -> Fault:
    # The error's class alone: its text may quote the row.
    return Fault(FaultCode.query_failed, f"a row of this result makes no sense to the server ({type(error).__name__})")
