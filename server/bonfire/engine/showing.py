"""How a result that was read reaches the sessions that hold its query: those that it held up, and those that wait for
its first word; and how a session that took nothing for a while reaches the newest of all.

Whatever is shown to a session joins what it holds, over the stretch of positions in which nobody knew the result, so
that all its queries move together.
"""

from collections.abc import Iterable

from bonfire.engine.delivery import Delivery
from bonfire.engine.query import LiveQuery
from bonfire.engine.session import Session
from bonfire.engine.settle import Settled
from bonfire.engine.telling import Telling


class Showing:
    """`position` is the engine's, in each call."""

    def __init__(self, delivery: Delivery, telling: Telling) -> None:
        self.conflations = 0
        self._delivery = delivery
        self._telling = telling

    def first_words(self, query: LiveQuery, askers: Iterable[tuple[Session, str]], position: int) -> None:
        """The query is live: say so to those who have just asked for it, or whom it has held up."""
        held_up: dict[Session, None] = {}
        for session, subscription in askers:
            query.hold(session, subscription)
            frames = self._telling.subscribed(query, session, subscription, position)
            held_from = session.blocking.get(query)
            if held_from is None:
                self._delivery.show(session, position, frames)
            else:
                session.merge(held_from, position, frames)
                held_up[session] = None
        # Only now: one who has asked under two names is told both at once.
        for session in held_up:
            session.unblock(query)
            self._delivery.release(session)

    def result(self, query: LiveQuery, settled: Settled, position: int, touched: dict[Session, None]) -> None:
        """The query's result is known from its first dirty position on, until it is not exact any more. `touched` gains
        the sessions that may have something to be shown now."""
        exact_until = settled.exact_until
        known_at = position if exact_until is None else exact_until - 1
        frames = self._telling.read_again(query, settled) if query.result is not None else []
        query.told += bool(frames)
        dirty_since = query.dirty_since
        query.take(settled.result, settled.more)
        query.dirty_since = exact_until
        together: list[Session] = []
        # One who waits for a first word besides is shown both at once.
        told_more = {session for session, _ in query.waiting}
        for session in query.subscribers:
            if exact_until is None and session.waits_for(query) and session not in told_more:
                together.append(session)
                continue
            touched[session] = None
            if dirty_since is not None:
                # A session that was given this query in place of another one is held up by it from there on.
                session.merge(min(dirty_since, session.blocking.get(query, dirty_since)), known_at, frames)
            if exact_until is None:
                session.unblock(query)
            else:
                session.block(query, exact_until)
        self._delivery.show_together(together, query, known_at, frames)
        waiting, query.waiting = query.waiting, {}
        for session, subscription in waiting:
            touched[session] = None
            self._admit(query, session, subscription, position, exact_until)

    def newest(self, session: Session, position: int) -> None:
        """The session takes things again: it is given the newest results of what has changed, in one transition."""
        missed, untold, frames = session.unpark()
        # What a known subscription missed can't be left to the first word of another one to the same query: the client
        # may let go of that one before it is shown.
        known = (query for name, query in session.subscriptions.items() if name not in untold)
        for query in dict.fromkeys(known):
            if query.number in missed:
                frames += self._telling.conflated(query)
        for subscription, query in session.subscriptions.items():
            if subscription in untold:
                frames += self._telling.subscribed(query, session, subscription, position)
        if frames:
            self.conflations += 1
            # Results that are being read again, of which the known ones are older, join it over all this stretch.
            session.hold(position, frames, start=0)
        self._delivery.release(session)

    def _admit(
        self, query: LiveQuery, session: Session, subscription: str, position: int, exact_until: int | None
    ) -> None:
        """Tell a waiting session `subscribed`, at a position that fits what it is shown otherwise.

        A result that is behind already can't join a session that has gone on; such a session is held where it is
        from now on, so that the next result meets it.
        """
        known_at = position if exact_until is None else exact_until - 1
        held_from = session.blocking.get(query)
        if exact_until is None:
            query.hold(session, subscription)
            part = self._telling.subscribed(query, session, subscription, known_at)
            if held_from is not None:
                session.merge(held_from, known_at, part)
                session.unblock(query)
            else:
                session.hold(known_at, part)
        elif held_from is not None and exact_until > held_from and session not in query.subscribers:
            query.hold(session, subscription)
            session.merge(held_from, known_at, self._telling.subscribed(query, session, subscription, known_at))
            session.block(query, exact_until)
        elif session in query.subscribers:
            # It holds this query under another name, and moves with it.
            query.hold(session, subscription)
            session.merge(known_at, known_at, self._telling.subscribed(query, session, subscription, known_at))
        else:
            session.block(query, session.blocking.get(query, position + 1))
            query.waiting[session, subscription] = None
