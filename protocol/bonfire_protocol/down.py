"""Frames from server to client: a closed union, told apart by `type`.

`subscribed`, `resumed`, `snapshot` and `patch` are parts of a transition: the client holds them until the
`transition` that follows, then applies all of them together. Nothing is shown before.
"""

from typing import Literal

from msgspec import Raw, Struct

from bonfire_protocol.faults import FaultCode, Next
from bonfire_protocol.values import PutRow, WirePosition

Shape = Literal["list", "one"]
IndexState = Literal["off", "pending", "fresh", "failed"]
ViewState = Literal["fresh"]
CheckOutcome = Literal["same", "differed", "unknown"]


class Down(Struct, frozen=True, tag_field="type", rename="camel", omit_defaults=True):
    """What all server frames have in common: a field at its default is left out."""


class Welcome(Down, tag="welcome", frozen=True):
    """The answer to `hello`. A result not confirmed for `stale_after_ms` must be shown as stale. `stream` names what
    positions and results mean here (this database's history, these functions, what this caller may see): to be said in
    the next `hello`. `expires_in_ms`: when the token ends; absent: never."""

    protocol: int
    connection: str
    tenant: str
    user: str
    position: WirePosition
    stale_after_ms: int
    source: Literal["wal", "listen"]
    stream: str
    expires_in_ms: int | None = None


class Subscribed(Down, tag="subscribed", frozen=True):
    """Subscription `id` is live from this transition on; or, where it was live already, what its holder may see of it
    has changed, and this is all of it now. `query` is the server's number for the live query,
    the name that later `patch` and `snapshot` frames use. `shape` says whether the result is the list `rows`,
    or the one value in it. `more` says that the result goes on behind the window."""

    id: str
    query: int
    position: WirePosition
    rows: list[Raw]
    shape: Shape = "list"
    more: bool = False


class Resumed(Down, tag="resumed", frozen=True):
    """Subscription `id` is live again, and what the client held of it is the result once it is changed so: take out the
    rows named in `remove` (one that is not there is no mistake) and those named in `put`; put each row of `put` in at
    its index, in the order given; then keep the first `length` rows. `query`, `more`: as in `subscribed`."""

    id: str
    query: int
    position: WirePosition
    length: int
    remove: list[str] = []
    put: list[PutRow] = []
    more: bool = False


class Snapshot(Down, tag="snapshot", frozen=True):
    """The whole result of live query `query`, in place of what the client holds of it, because it `changed` in so many
    places; because the client did not keep up and is spared what lies between (`conflated`); or because a check found
    that what was sent was wrong (`repaired`)."""

    query: int
    rows: list[Raw]
    reason: Literal["changed", "conflated", "repaired"]
    more: bool = False


class Patch(Down, tag="patch", frozen=True):
    """The change of live query `query`: take out the rows named in `remove` and those named in `put`; then put
    each row of `put` in at its index, in the order given (indexes ascend)."""

    query: int
    remove: list[str] = []
    put: list[PutRow] = []
    more: bool = False


class Transition(Down, tag="transition", frozen=True):
    """All frames since the last transition are now true together, at this position. Apply them."""

    position: WirePosition


class Watermark(Down, tag="watermark", frozen=True):
    """Nothing that you hold has changed up to this position."""

    position: WirePosition


class Stale(Down, tag="stale", frozen=True):
    """The server has lost sight of the changes: what you hold may be old until the next watermark."""

    reason: str


class Result(Down, tag="result", frozen=True):
    """The answer to `query`, read at `position` or later."""

    id: str
    position: WirePosition
    value: Raw


class Committed(Down, tag="committed", frozen=True):
    """The freshness object of a mutation: it is committed at `position`; `views` names each read model that it
    touched; `indexes` says how far each index is (`indexed` frames tell when a pending one catches up)."""

    id: str
    status: Literal["committed"]
    position: WirePosition
    value: Raw
    views: dict[str, ViewState]
    indexes: dict[str, IndexState]


class Indexed(Down, tag="indexed", frozen=True):
    """An index has caught up with mutation `id`, or has failed to, with the reason."""

    id: str
    index: str
    state: IndexState
    reason: str | None = None


class Unsubscribed(Down, tag="unsubscribed", frozen=True):
    """Subscription `id` has ended: on request, or, with a fault, because it can't be kept true."""

    id: str
    code: FaultCode | None = None
    message: str | None = None
    next: Next | None = None


class Refused(Down, tag="refused", frozen=True):
    """A frame was refused. `id` is that of the frame, where it had one. `next`: retry, resync or stop."""

    code: FaultCode
    message: str
    next: Next
    id: str | None = None
    field: str | None = None
    expected: str | None = None
    got: str | None = None


class Pong(Down, tag="pong", frozen=True):
    """The answer to `ping`."""

    position: WirePosition
    id: str | None = None


class Checked(Down, tag="checked", frozen=True):
    """The answer to `check`: at `position` the result was the `same` as one computed afresh, or it `differed`: then the
    repaired one has been sent to all who hold it. `unknown`: it changed too fast to tell; ask again."""

    id: str
    outcome: CheckOutcome
    position: WirePosition


class Drain(Down, tag="drain", frozen=True):
    """This server is about to stop: come back after `after_ms`, to any node."""

    after_ms: int


class Access(Down, tag="access", frozen=True):
    """What this caller may see has changed. What they may no longer see ends with `unsubscribed` or comes again as
    `subscribed`. `stream` takes the place of the one that `welcome` named."""

    stream: str


class Expiring(Down, tag="expiring", frozen=True):
    """The token ends in `in_ms`: send `renew`, or be cut off then."""

    in_ms: int


class Renewed(Down, tag="renewed", frozen=True):
    """The answer to `renew`: the new token is in force. `expires_in_ms`: when it ends; absent: never."""

    id: str
    expires_in_ms: int | None = None


DownFrame = (
    Welcome
    | Subscribed
    | Resumed
    | Snapshot
    | Patch
    | Transition
    | Watermark
    | Stale
    | Result
    | Committed
    | Indexed
    | Unsubscribed
    | Refused
    | Pong
    | Checked
    | Drain
    | Access
    | Expiring
    | Renewed
)
