"""Which frames go to which sessions: a transition is shown at once, or held until the session may go on.

Invariant: an `Audience` names exactly the free sessions that hold a live query. It is made when a commit first needs it
and kept on the query until one of them is not free any more, or comes, or goes: between two commits, mostly nothing
happens, and then a commit costs nothing for each session but the sending.
"""

from msgspec import Struct

from bonfire.engine.frames import SharedFrame
from bonfire.engine.query import Audience, LiveQuery
from bonfire.engine.session import Session
from bonfire_protocol.down import Transition, Watermark
from bonfire_protocol.values import format_position


class Outgoing(Struct, frozen=True):
    """These frames, in this order, to each session of the audience."""

    frames: list[SharedFrame]
    audience: Audience


class Delivery:
    """Collects what goes out, in order. A frame that several sessions get is one object. `period`: after how many
    beats a watermark goes along with a transition: less than after how many one would be sent by itself."""

    def __init__(self, period: int) -> None:
        self.vouching: int | None = None
        """The number of the present beat; None while the change stream gives no word."""
        self._period = period
        self._outgoing: list[Outgoing] = []
        self._last_marker: tuple[int, SharedFrame] = (-1, SharedFrame(Transition("0/0")))

    def take(self) -> list[Outgoing]:
        outgoing, self._outgoing = self._outgoing, []
        return outgoing

    def send(self, frames: list[SharedFrame], sessions: list[Session]) -> None:
        """Frames that are no part of a transition."""
        self._outgoing.append(Outgoing(frames, Audience(sessions, [])))

    def show(self, session: Session, position: int, frames: list[SharedFrame]) -> None:
        """A transition to one session, now or when it may be shown."""
        if session.free:
            session.position = position
            self.send([*frames, self._marker(position)], [session])
        else:
            session.hold(position, frames)
            self.release(session)

    def show_together(
        self, sessions: list[Session], query: LiveQuery, position: int, frames: list[SharedFrame]
    ) -> None:
        """A transition to sessions that have waited for nothing but this query: the same bytes for all of them."""
        for session in sessions:
            session.unblock(query)
            session.position = position
        if sessions:
            self._outgoing.append(Outgoing([*frames, self._marker(position)], Audience(sessions, [])))

    def release(self, session: Session) -> None:
        """What this session may be shown now of what it was not."""
        for held in session.release():
            session.position = max(session.position, held.position)
            self.send([*held.frames, self._marker(held.position)], [session])

    def fan_out(self, changed: dict[LiveQuery, list[SharedFrame]], position: int) -> None:
        """A commit's patches to their holders: sessions that hold the same ones get the same bytes."""
        if not changed:
            return
        marker = self._marker(position)
        for query in changed:
            query.shown_at = position
            query.told += 1
        if len(changed) == 1:
            ((query, frames),) = changed.items()
            audience = query.audience
            if audience is None:
                audience = query.audience = _audience(query.subscribers)
            self._to(audience, frames, marker, position)
            return
        parts: dict[Session, list[LiveQuery]] = {}
        for query in changed:
            for session in query.subscribers:
                parts.setdefault(session, []).append(query)
        groups: dict[tuple[int, ...], tuple[list[SharedFrame], list[Session]]] = {}
        for session, queries in parts.items():
            numbers = tuple(query.number for query in queries)
            group = groups.get(numbers)
            if group is None:
                group = groups[numbers] = ([shared for query in queries for shared in changed[query]], [])
            group[1].append(session)
        for frames, sessions in groups.values():
            self._to(_audience(sessions), frames, marker, position)

    def _to(self, audience: Audience, frames: list[SharedFrame], marker: SharedFrame, position: int) -> None:
        if audience.sessions:
            told = [*frames, marker]
            if self.vouching is not None and audience.vouched_at <= self.vouching - self._period:
                # They are due a watermark soon: with this one it costs no write of its own.
                told.append(SharedFrame(Watermark(format_position(position))))
                audience.vouched_at = self.vouching
                for session in audience.sessions:
                    session.vouched_at = self.vouching
            self._outgoing.append(Outgoing(told, audience))
        for session in audience.held_up:
            session.hold(position, frames)
            self.release(session)

    def _marker(self, position: int) -> SharedFrame:
        """The end of a transition at this position: one frame, however many are shown it one by one."""
        if self._last_marker[0] != position:
            self._last_marker = (position, SharedFrame(Transition(format_position(position))))
        return self._last_marker[1]


def _audience(sessions: "dict[Session, list[str]] | list[Session]") -> Audience:
    audience = Audience([], [])
    for session in sessions:
        (audience.sessions if session.free else audience.held_up).append(session)
    audience.vouched_at = min((session.vouched_at for session in audience.sessions), default=0)
    return audience
