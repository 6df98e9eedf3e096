"""Which frames go to which sessions: a transition is shown at once, or held until the session may go on."""

from msgspec import Struct

from bonfire.engine.frames import SharedFrame
from bonfire.engine.query import LiveQuery
from bonfire.engine.session import Session
from bonfire_protocol.down import Transition
from bonfire_protocol.values import format_position


class Outgoing(Struct, frozen=True):
    """These frames, in this order, to each of these sessions."""

    frames: list[SharedFrame]
    sessions: list[Session]


class Delivery:
    """Collects what goes out, in order. A frame that several sessions get is one object."""

    def __init__(self) -> None:
        self._outgoing: list[Outgoing] = []

    def take(self) -> list[Outgoing]:
        outgoing, self._outgoing = self._outgoing, []
        return outgoing

    def send(self, frames: list[SharedFrame], sessions: list[Session]) -> None:
        """Frames that are no part of a transition."""
        self._outgoing.append(Outgoing(frames, sessions))

    def show(self, session: Session, position: int, frames: list[SharedFrame]) -> None:
        """A transition to one session, now or when it may be shown."""
        if session.free:
            session.position = position
            self.send([*frames, _marker(position)], [session])
        else:
            session.hold(position, frames)
            self.release(session)

    def release(self, session: Session) -> None:
        """What this session may be shown now of what it was not."""
        for held in session.release():
            session.position = max(session.position, held.position)
            self.send([*held.frames, _marker(held.position)], [session])

    def fan_out(self, changed: dict[LiveQuery, SharedFrame], position: int) -> None:
        """A commit's patches to their holders: sessions that hold the same ones get the same bytes."""
        if not changed:
            return
        marker = _marker(position)
        if len(changed) == 1:
            ((query, frame),) = changed.items()
            self._to_group([frame], marker, list(query.subscribers), position)
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
                group = groups[numbers] = ([changed[query] for query in queries], [])
            group[1].append(session)
        for frames, sessions in groups.values():
            self._to_group(frames, marker, sessions, position)

    def _to_group(self, frames: list[SharedFrame], marker: SharedFrame, sessions: list[Session], position: int) -> None:
        free: list[Session] = []
        for session in sessions:
            # `session.free`, spelled out: this loop runs for every delivery.
            if not session.blocking and not session.held:
                session.position = position
                free.append(session)
            else:
                session.hold(position, frames)
                self.release(session)
        if free:
            self.send([*frames, marker], free)


def _marker(position: int) -> SharedFrame:
    return SharedFrame(Transition(format_position(position)))
