"""One client's side of the engine: what it holds, where it stands, and what it can't be shown yet."""

from bonfire.engine.frames import SharedFrame
from bonfire.engine.query import LiveQuery
from bonfire_protocol.down import Subscribed


class Held:
    """A transition that waits: its frames, and the stretch of positions that it takes the client over."""

    __slots__ = ("frames", "position", "start")

    def __init__(self, start: int, position: int, frames: list[SharedFrame]) -> None:
        self.start = start
        self.position = position
        self.frames = frames


class Session:
    """One connection. Invariants: `held` is ordered, its stretches disjoint; while `blocking` is not empty nothing at
    or after its least position is shown, because a query of this session is not known there yet."""

    __slots__ = ("access", "blocking", "held", "key", "position", "subscriptions", "tenant")

    def __init__(self, key: object, tenant: str, access: str, position: int) -> None:
        self.key = key
        self.tenant = tenant
        self.access = access
        self.position = position
        self.subscriptions: dict[str, LiveQuery] = {}
        self.blocking: dict[LiveQuery, int] = {}
        self.held: list[Held] = []

    @property
    def free(self) -> bool:
        """Whether a transition can be shown at once."""
        return not self.blocking and not self.held

    def hold(self, position: int, frames: list[SharedFrame]) -> None:
        """Keep the frames of a transition at `position`, the newest so far, for later."""
        if self.held and self.held[-1].position >= position:
            self.held[-1].frames.extend(frames)
        else:
            self.held.append(Held(position, position, list(frames)))

    def merge(self, start: int, position: int, frame: SharedFrame | None) -> None:
        """A query that was unknown from `start` on is known at `position`: what is held over that stretch becomes one
        transition that ends with `frame`. It is there even without one: the query's result is the same as before at
        `position`, but what it was in between nobody knows, so no other transition may end there."""
        start = min(start, position)
        inside = [held for held in self.held if held.position >= start and held.start <= position]
        if not inside:
            self._insert(Held(start, position, [frame] if frame is not None else []))
            return
        first = inside[0]
        for later in inside[1:]:
            first.frames.extend(later.frames)
            self.held.remove(later)
        first.start = min(first.start, start)
        first.position = max(inside[-1].position, position)
        if frame is not None:
            first.frames.append(frame)

    def forget(self, subscription: str) -> None:
        """The client has let this subscription go before it was shown: `subscribed` must not come after all."""
        for held in self.held:
            held.frames = [
                shared
                for shared in held.frames
                if not (isinstance(shared.frame, Subscribed) and shared.frame.id == subscription)
            ]

    def _insert(self, transition: Held) -> None:
        place = len(self.held)
        while place > 0 and self.held[place - 1].position > transition.position:
            place -= 1
        self.held.insert(place, transition)

    def release(self) -> list[Held]:
        """The transitions that may be shown now, in order."""
        if not self.held:
            return []
        barrier = min(self.blocking.values(), default=None)
        count = 0
        while count < len(self.held) and (barrier is None or self.held[count].position < barrier):
            count += 1
        released, self.held = self.held[:count], self.held[count:]
        return released
