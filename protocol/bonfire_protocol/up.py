"""Frames from client to server: a closed union, told apart by `type`."""

from msgspec import Raw, Struct, field

from bonfire_protocol.values import ClientId, FunctionName, WirePosition
from bonfire_protocol.version import PROTOCOL_VERSION

EMPTY_OBJECT = Raw(b"{}")


class Up(Struct, frozen=True, tag_field="type", rename="camel", forbid_unknown_fields=True):
    """What all client frames have in common: unknown fields are refused, never ignored."""


class Hello(Up, tag="hello", frozen=True):
    """The first frame. `position` is the newest position this client has shown its user, if it comes back, and
    `stream` the one that `welcome` named then: positions of another stream say nothing here, but for their order."""

    protocol: int = PROTOCOL_VERSION
    token: str | None = None
    tenant: str | None = None
    client: str | None = None
    position: WirePosition | None = None
    stream: str | None = None


class Subscribe(Up, tag="subscribe", frozen=True):
    """Hold a live query. `id` is the client's name for this subscription, unique among its open ones. `resume` says
    that the client holds this query's result as it was at the position in its `hello`."""

    id: ClientId
    query: FunctionName
    args: Raw = field(default=EMPTY_OBJECT)
    resume: bool = False


class Unsubscribe(Up, tag="unsubscribe", frozen=True):
    """Let a subscription go."""

    id: ClientId


class Query(Up, tag="query", frozen=True):
    """Read once."""

    id: ClientId
    query: FunctionName
    args: Raw = field(default=EMPTY_OBJECT)


class Mutate(Up, tag="mutate", frozen=True):
    """Write. `id` is made by the client and makes the mutation exactly-once: sent again, it is not done again.

    `patient` states whose chart the user had on the screen: a write to another patient is refused.
    `version` states the version of the record that the user had on the screen, where the function updates one.
    """

    id: ClientId
    mutation: FunctionName
    args: Raw = field(default=EMPTY_OBJECT)
    patient: str | None = None
    version: str | None = None


class Ping(Up, tag="ping", frozen=True):
    """Are you there? Answered by `pong` with the same id."""

    id: str | None = None


class Check(Up, tag="check", frozen=True):
    """Compute the live query of an open subscription afresh and compare it with what was sent."""

    id: ClientId
    subscription: ClientId


class Renew(Up, tag="renew", frozen=True):
    """A new token for the same user of the same tenant, in place of one that is about to end. Nothing else changes."""

    id: ClientId
    token: str


UpFrame = Hello | Subscribe | Unsubscribe | Query | Mutate | Ping | Check | Renew
