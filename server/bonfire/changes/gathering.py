"""A transaction's messages while they come in: whole ones as long as they are small, then only what they touch.

Invariant: however large a transaction is, what is held of it is bounded: first by the bytes of its messages, then by
the number of its keys. What is no longer carried is named, less and less narrowly (this key's rows, all of this view's,
anybody's records), so that whoever shows some of it reads it afresh.
"""

from collections import Counter
from collections.abc import Sequence
from typing import Final

from msgspec import Struct

from bonfire.engine.commit import Message

CARRIED_BYTES: Final = 8 * 1024 * 1024
"""Messages of a transaction up to here are carried with their rows."""

NAMED_KEYS: Final = 200_000
"""Behind that, up to so many keys are named; then whole read models. Likewise of patients."""

_NAMED_USERS: Final = 1000
_EVERYBODY: Final = "*"

BulkKey = tuple[str, str, str]
"""(tenant, read model, key)."""


class Gathered(Struct, frozen=True):
    """A whole transaction: its messages, and the keys whose rows are not in them."""

    messages: Sequence[Message]
    bulk: frozenset[BulkKey]


class Gathering:
    """One transaction, message by message. `carried` and `named` are the bounds."""

    __slots__ = (
        "_access",
        "_bytes",
        "_carried",
        "_keys",
        "_messages",
        "_named",
        "_patients",
        "_reset",
        "_touched",
        "is_bulk",
    )

    def __init__(self, *, carried: int = CARRIED_BYTES, named: int = NAMED_KEYS) -> None:
        self.is_bulk = False
        self._carried = carried
        self._named = named
        self._bytes = 0
        self._messages: list[Message] = []
        self._keys: set[BulkKey] = set()
        self._reset: set[str] = set()
        self._touched: dict[tuple[str, str], set[str] | None] = {}
        self._patients = 0
        self._access: dict[str | None, set[str]] = {}

    def add(self, message: Message, size: int) -> None:
        """The next message, which came as `size` bytes."""
        self._bytes += size
        if self.is_bulk:
            self._name(message)
        elif self._bytes <= self._carried:
            self._messages.append(message)
        else:
            # All of it or nothing: a key of which some rows are carried would be neither patched nor known to be old.
            self.is_bulk = True
            carried, self._messages = self._messages, []
            for one in (*carried, message):
                self._name(one)

    def finish(self) -> Gathered:
        if not self.is_bulk:
            return Gathered(self._messages, frozenset())
        touched = [
            Message(tenant=tenant, source=source, patients=None if patients is None else sorted(patients))
            for (tenant, source), patients in self._touched.items()
        ]
        reset = [Message(reset=sorted(self._reset))] if self._reset else []
        access = [Message(tenant=tenant, access=sorted(users)) for tenant, users in self._access.items()]
        return Gathered([*touched, *reset, *access, *self._messages], frozenset(self._keys))

    def _name(self, message: Message) -> None:
        """Keep what the message touches, and let its rows go."""
        self._reset.update(message.reset)
        if message.mutation is not None or message.index is not None:
            self._messages.append(Message(tenant=message.tenant, mutation=message.mutation, index=message.index))
        if message.access:
            users = self._access.setdefault(message.tenant, set())
            users.update(message.access)
            if len(users) > _NAMED_USERS:
                self._access[message.tenant] = {_EVERYBODY}
        if message.tenant is None:
            return
        if message.source is not None:
            self._touch((message.tenant, message.source), message.patients)
        for change in message.views:
            if change.view in self._reset:
                continue
            for row in change.rows:
                self._keys.add((message.tenant, change.view, row.key))
                if row.old_key is not None:
                    self._keys.add((message.tenant, change.view, row.old_key))
        while len(self._keys) > self._named:
            self._name_largest_view()

    def _name_largest_view(self) -> None:
        ((view, _),) = Counter(view for _, view, _ in self._keys).most_common(1)
        self._reset.add(view)
        self._keys = {key for key in self._keys if key[1] != view}

    def _touch(self, key: tuple[str, str], patients: list[str] | None) -> None:
        known = self._touched.setdefault(key, set())
        if known is None:
            return
        if patients is not None:
            before = len(known)
            known.update(patients)
            self._patients += len(known) - before
        if patients is None or self._patients > self._named:
            self._touched[key] = None
            self._patients -= len(known)
