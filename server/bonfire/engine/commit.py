"""A commit as the engine sees it: a position in Postgres' commit order, and what changed there.

`Message` is one JSON message that the database's own triggers wrote inside the transaction; `Commit` is all
messages of one transaction. The triggers are the single producer, whoever writes (API, psql, COPY).
"""

from collections.abc import Sequence

from msgspec import Raw, Struct, field

from bonfire_protocol.down import IndexState


class RowChange(Struct, frozen=True, array_like=True):
    """One row of a read model changed. On the wire: `[key, id, oldKey, row]`.

    `row` is the row's new JSON, spelled as a snapshot spells it; JSON `null` when the row has left `key`.
    `old_key` is set when the row has moved there from another key.
    """

    key: str
    id: str
    old_key: str | None
    row: Raw

    @property
    def gone(self) -> bool:
        return bytes(self.row) == b"null"


class ViewChange(Struct, frozen=True):
    """Rows of read model `view` that one statement changed."""

    view: str
    rows: list[RowChange]


class Message(Struct, frozen=True, rename="camel"):
    """What one statement (or one end of a mutation) tells the live engine.

    `source` names what was written: a FHIR type, or `AppState/<collection>`; `patients` whose (None: too many to
    name, so everybody's). `mutation` names the mutation that this transaction is. `reset` names read models that
    were rebuilt. `index` reports a lane's progress. `access` names users of whom what they may see may have changed
    ("*": everybody of the tenant).
    """

    tenant: str | None = None
    source: str | None = None
    patients: list[str] | None = None
    views: list[ViewChange] = []
    mutation: str | None = None
    reset: list[str] = []
    index: "IndexProgress | None" = None
    access: list[str] = []


class IndexProgress(Struct, frozen=True, rename="camel"):
    """Index `index` has caught up with mutation `mutation` (or has failed to)."""

    mutation: str
    index: str
    state: IndexState
    reason: str | None = None


class Commit(Struct, frozen=True):
    """One committed transaction. `position` is strictly monotonic; `xid` is the full 64-bit transaction id, or
    the low 32 bits of it where the source knows no more (pgoutput); `at` is the commit's time, seconds since 1970.

    `bulk` names the (tenant, read model, key) whose rows changed in a transaction too large to carry its rows: who
    shows these reads them afresh."""

    position: int
    xid: int
    messages: Sequence[Message]
    at: float = field(default=0.0)
    bulk: frozenset[tuple[str, str, str]] = frozenset()
