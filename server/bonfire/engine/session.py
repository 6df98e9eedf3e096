"""One client's side of the engine: what it holds, where it stands, and what it can't be shown yet."""

from bonfire.engine.frames import SharedFrame
from bonfire.engine.query import LiveQuery
from bonfire_protocol.down import Access, Patch, Resumed, Snapshot, Subscribed


class Held:
    """A transition that waits: its frames, and the stretch of positions that it takes the client over."""

    __slots__ = ("frames", "position", "start")

    def __init__(self, start: int, position: int, frames: list[SharedFrame]) -> None:
        self.start = start
        self.position = position
        self.frames = frames


class Session:
    """One connection. Invariants: `held` is ordered, its stretches disjoint; while something blocks, nothing at or
    after the least blocked position is shown.

    | it is | because | what commits bring it |
    |---|---|---|
    | free | nothing holds it up | goes out at once; it is true at the engine's position |
    | blocked | a query is being read again, its mutation's answer comes first, or it is doubted | is held, in order |
    | parked | the client does not read what was sent | is not kept: only that its queries have changed |
    """

    __slots__ = (
        "answer_due",
        "blocking",
        "doubted_from",
        "free",
        "held",
        "key",
        "missed",
        "parked",
        "position",
        "resuming",
        "share",
        "since",
        "subscriptions",
        "tenant",
        "told_first",
        "untold",
        "vouched_at",
    )

    def __init__(self, key: object, tenant: str, position: int, since: int | None) -> None:
        self.key = key
        self.tenant = tenant
        self.position = position
        """The last one that it was told by itself; `LiveQuery.shown_at` is that of what went to many."""
        self.since = since
        """Where it resumes from."""
        self.resuming: set[str] = set()
        self.subscriptions: dict[str, LiveQuery] = {}
        self.blocking: dict[LiveQuery, int] = {}
        self.answer_due: int | None = None
        self.doubted_from: int | None = None
        """From this position on it is not known what its client may see."""
        self.held: list[Held] = []
        self.parked = False
        self.missed: set[int] = set()
        self.untold: set[str] = set()
        self.told_first: list[SharedFrame] = []
        """What a parked client is told before all else."""
        self.free = True
        self.share = 0
        """Its place in the rota of heartbeats."""
        self.vouched_at = -1_000_000
        """The beat at which it was last told that what it holds is fresh."""

    # ---- what holds it up -----------------------------------------------------------------------------------

    def block(self, query: LiveQuery, position: int) -> None:
        """What this query's result is from `position` on is not known."""
        self.blocking[query] = position
        self._settle()

    def unblock(self, query: LiveQuery) -> None:
        if self.blocking.pop(query, None) is not None:
            self._settle()

    def await_answer(self, position: int | None) -> None:
        """Show nothing from `position` on until its own mutation's answer is out; None: it is."""
        self.answer_due = position
        self._settle()

    def doubt(self, position: int) -> None:
        """What the client may see from `position` on is not known: show nothing from there on."""
        self.doubted_from = position if self.doubted_from is None else min(self.doubted_from, position)
        self._settle()

    def announce(self, position: int, told: SharedFrame) -> bool:
        """That what the client may see has changed goes out with what is held from the doubted position on; `position`
        is the engine's. False where nothing is: then it may go out by itself."""
        assert self.doubted_from is not None
        waits = self.parked or self.held or self.blocking or self.answer_due is not None
        if waits:
            self.merge(self.doubted_from, max(self.doubted_from, position), [told])
        return bool(waits)

    def trust(self) -> None:
        """It is known again, and this holds nothing else."""
        self.doubted_from = None
        self._settle()

    def park(self) -> None:
        """Keep no transitions any more, not even those that are held: only which queries they change."""
        self.parked = True
        for held in self.held:
            self._miss(held.frames)
        self.held.clear()
        self._settle()

    def unpark(self) -> tuple[set[int], set[str], list[SharedFrame]]:
        """Keep transitions again. The numbers of the queries that have changed meanwhile, the subscriptions that were
        never told, and what is told first."""
        told, self.told_first = self.told_first, []
        missed, self.missed = self.missed, set()
        untold, self.untold = self.untold, set()
        self.parked = False
        self._settle()
        return missed, untold, told

    def _settle(self) -> None:
        free = not (
            self.blocking or self.held or self.parked or self.answer_due is not None or self.doubted_from is not None
        )
        if free != self.free:
            self.free = free
            for query in self.subscriptions.values():
                query.audience = None

    def waits_for(self, query: LiveQuery) -> bool:
        """Whether this query is all that holds it up: then its result is the next thing to be shown."""
        return (
            not self.held
            and not self.parked
            and self.answer_due is None
            and self.doubted_from is None
            and len(self.blocking) == 1
            and query in self.blocking
        )

    # ---- transitions that wait ------------------------------------------------------------------------------

    def hold(self, position: int, frames: list[SharedFrame], start: int | None = None) -> None:
        """Keep the frames of a transition at `position`, the newest so far, for later. `start`: where the stretch that
        it takes the client over begins, if not there."""
        if self.parked:
            self._miss(frames)
        elif self.held and self.held[-1].position >= position:
            self.held[-1].frames.extend(frames)
        else:
            self.held.append(Held(position if start is None else start, position, list(frames)))
            self._settle()

    def merge(self, start: int, position: int, frames: list[SharedFrame]) -> None:
        """A query that was unknown from `start` on is known at `position`: what is held over that stretch becomes one
        transition that ends with `frames`. It is there even without any: the query's result is the same as before at
        `position`, but what it was in between nobody knows, so no other transition may end there."""
        if self.parked:
            self._miss(frames)
            return
        start = min(start, position)
        inside = [held for held in self.held if held.position >= start and held.start <= position]
        if not inside:
            self._insert(Held(start, position, list(frames)))
            self._settle()
            return
        first = inside[0]
        for later in inside[1:]:
            first.frames.extend(later.frames)
            self.held.remove(later)
        first.start = min(first.start, start)
        first.position = max(inside[-1].position, position)
        first.frames.extend(frames)

    def forget(self, subscription: str, position: int = 0) -> None:
        """This subscription is gone, or another one from `position` on: from there `subscribed` must not come after
        all."""
        self.resuming.discard(subscription)
        self.untold.discard(subscription)
        for held in self.held:
            if held.position >= position:
                held.frames = [
                    shared
                    for shared in held.frames
                    if not (isinstance(shared.frame, Subscribed | Resumed) and shared.frame.id == subscription)
                ]

    def drop(self, query: int, position: int) -> None:
        """From `position` on the client may not be shown this query (its number) any more: nothing of it that is held
        may come after all."""
        self.missed.discard(query)
        for held in self.held:
            if held.position >= position:
                held.frames = [shared for shared in held.frames if getattr(shared.frame, "query", None) != query]

    def release(self) -> list[Held]:
        """The transitions that may be shown now, in order."""
        if not self.held:
            return []
        barriers = [*self.blocking.values(), self.answer_due, self.doubted_from]
        barrier = min((each for each in barriers if each is not None), default=None)
        count = 0
        while count < len(self.held) and (barrier is None or self.held[count].position < barrier):
            count += 1
        released, self.held = self.held[:count], self.held[count:]
        self._settle()
        return released

    def _insert(self, transition: Held) -> None:
        place = len(self.held)
        while place > 0 and self.held[place - 1].position > transition.position:
            place -= 1
        self.held.insert(place, transition)

    def _miss(self, frames: list[SharedFrame]) -> None:
        for shared in frames:
            match shared.frame:
                case Subscribed(id=subscription) | Resumed(id=subscription):
                    self.untold.add(subscription)
                case Snapshot(query=number) | Patch(query=number):
                    self.missed.add(number)
                case Access():
                    self.told_first.append(shared)
                case _:
                    raise AssertionError(shared.frame)
