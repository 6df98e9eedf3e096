"""A live query: what it is asked for, what it depends on, and how far its result is true.

One per node and identity, whoever holds it. States, told apart by two fields:

| `result` | `dirty_since` | the query is |
|---|---|---|
| None | None | loading: nobody has a result yet |
| set | None | live: the result is exact at the engine's position |
| set | position | dirty: exact before that position; a read is owed or under way |
"""

from typing import TYPE_CHECKING, Any, Literal

from msgspec import Struct

from bonfire.engine.frames import SharedFrame
from bonfire.engine.history import Dependencies
from bonfire.engine.ordering import Ordering
from bonfire.engine.view import Row, Window

if TYPE_CHECKING:
    from bonfire.engine.session import Session

Shape = Literal["list", "one"]


class QueryIdentity(Struct, frozen=True):
    """Equal identities share one live query. `access` is the fingerprint of what the caller may see."""

    tenant: str
    name: str
    args: bytes
    access: str


class KeyedPlan(Struct, frozen=True):
    """Rows of read model `view` under `key`, the first `limit` of them in `order` ((column, descending), ...).
    `handle` is the shell's own: what it needs to read the rows. `urgent`: read before those that are not."""

    view: str
    key: str
    limit: int
    order: tuple[tuple[str, bool], ...]
    handle: Any = None
    urgent: bool = False


class AppPlan(Struct, frozen=True):
    """A result that is read again when a commit touches one of its dependencies: (source, patient or None for any), or
    when the read model `view` is made anew. Of what is read, the first `limit` rows are shown.

    `identified`: each row has an `id`, so that a patch can name rows; otherwise the whole result is sent. `handle` is
    the shell's own: what it needs to run the query. `urgent`: run before those that are not."""

    dependencies: Dependencies
    shape: Shape
    identified: bool
    handle: Any = None
    urgent: bool = False
    view: str | None = None
    limit: int | None = None


Plan = KeyedPlan | AppPlan


class Audience:
    """The sessions that get the same bytes, and those that are held up and get them later. `ways` is a place for the
    transport to keep what it knows of their sockets, so that this too is looked up once. `vouched_at`: the beat since
    which none of them was told that what it holds is fresh."""

    __slots__ = ("held_up", "sessions", "vouched_at", "ways")

    def __init__(self, sessions: "list[Session]", held_up: "list[Session]", vouched_at: int = 0) -> None:
        self.sessions = sessions
        self.held_up = held_up
        self.vouched_at = vouched_at
        self.ways: Any = None


class LiveQuery:
    """See the module's table of states. `subscribers` maps each session to its subscription ids, `waiting` holds those
    (session, subscription id) that have not been told `subscribed` yet. `audience`: who of `subscribers` is free, as
    long as that is known. `shown_at`: the position of the last patch that went to all of them; `told`: how many changes
    have."""

    __slots__ = (
        "audience",
        "dirty_since",
        "identity",
        "more",
        "number",
        "ordering",
        "plan",
        "reading",
        "result",
        "shown_at",
        "snapshot_parts",
        "subscribers",
        "told",
        "waiting",
    )

    def __init__(self, number: int, identity: QueryIdentity, plan: Plan, ordering: Ordering | None) -> None:
        self.number = number
        self.identity = identity
        self.plan = plan
        self.ordering = ordering
        self.result: Window | list[Row] | None = None
        self.more = False
        self.dirty_since: int | None = None
        self.reading: int | None = None
        self.subscribers: dict[Session, list[str]] = {}
        self.waiting: dict[tuple[Session, str], None] = {}
        self.snapshot_parts: dict[tuple[str | None, int | None], list[SharedFrame]] = {}
        self.audience: Audience | None = None
        self.shown_at = 0
        self.told = 0

    def take(self, result: "Window | list[Row]", more: bool) -> None:
        """This is the result now."""
        self.result = result
        self.more = more
        self.snapshot_parts.clear()

    @property
    def shape(self) -> Shape:
        return self.plan.shape if isinstance(self.plan, AppPlan) else "list"

    def hold(self, session: "Session", subscription: str) -> None:
        """From now on this session is shown it, under this name."""
        self.subscribers.setdefault(session, []).append(subscription)
        self.audience = None

    @property
    def identified(self) -> bool:
        """Whether its rows have ids, by which patches can name them."""
        return isinstance(self.plan, KeyedPlan) or self.plan.identified

    @property
    def held(self) -> bool:
        """Whether anybody wants it."""
        return bool(self.subscribers or self.waiting)

    def shown(self) -> list[Row]:
        match self.result:
            case None:
                return []
            case Window():
                return self.result.shown()
            case list():
                return self.result
