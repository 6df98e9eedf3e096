"""Whether the trail is as it was sealed: the chain's links and the rows under them, computed anew, here and not in the
database.

A row is spelled as its values in a fixed order, each with its length in bytes before it (`5:clerk`; `-` is null; a list
is the words of its items, as one word); times are microseconds since 1970. A row's hash is SHA-256 of that; a seal's
digest is SHA-256 of its rows' hashes in the order of (transaction, id); a link's hash is SHA-256 of its own values,
spelled in the same way, with the hash before it. `bonfire.audit_spelling_1` spells the same in SQL. Neither may ever
change: a new spelling gets a new number.
"""

from collections.abc import Iterable, Sequence
from datetime import date, datetime, timedelta
from hashlib import sha256
from typing import Any, Final, Literal
from uuid import UUID

import asyncpg
from msgspec import Struct

from bonfire.store.statements import read_statements

Kind = Literal["altered", "missing", "inserted", "backdated", "chain", "head", "published"]

_STATEMENTS = read_statements("audit_chain")

_SLACK: Final = timedelta(minutes=1)
"""A statement takes its time before it takes its number, and a server's clock is set right now and then."""

_LEAF: Final = 24
"""Bytes of a leaf: a row's id, and the beginning of its hash."""

SPELLING: Final = 1


class Finding(Struct, frozen=True):
    """Something that is not as it was sealed. `seal` is the link's number; `id` the row's, where it can be told."""

    kind: Kind
    message: str
    month: str | None = None
    seal: int | None = None
    id: str | None = None


class Verified(Struct, frozen=True):
    """`rows` were found as they were sealed, under `seals`; `unsealed` ones are too new. `dropped`: the months that
    retention took away, and when. `seq` and `hash` are where the chain ends. `findings` is empty when all is well."""

    seals: int
    rows: int
    unsealed: int
    dropped: tuple[tuple[str, datetime], ...]
    seq: int
    hash: str
    findings: tuple[Finding, ...]


def word(value: str | None) -> str:
    return "-" if value is None else f"{len(value.encode())}:{value}"


def spell(values: Iterable[str | Sequence[str] | None]) -> str:
    """The values, one after the other, so that no two lists of them are spelled the same."""
    return "".join(
        word(value) if value is None or isinstance(value, str) else word("".join(map(word, value))) for value in values
    )


def row_hash(values: Iterable[str | Sequence[str] | None]) -> bytes:
    return sha256(spell(values).encode()).digest()


async def verify(conn: asyncpg.Connection, *, published: Sequence[tuple[int, str]] = (), most: int = 100) -> Verified:
    """Computes the whole chain anew, on an owner's connection, in one snapshot. `published`: (number, hash) of links
    that were written down elsewhere. No more than about `most` findings are told, the first ones first."""
    async with conn.transaction(isolation="repeatable_read", readonly=True):
        return await _Verifier(conn, dict(published), most).run()


class _Verifier:
    def __init__(self, conn: asyncpg.Connection, published: dict[int, str], most: int) -> None:
        self._conn = conn
        self._published = published
        self._most = most
        self._findings: list[Finding] = []
        self._seals = self._rows = self._unsealed = 0
        self._dropped: dict[date, tuple[int, datetime]] = {}

    async def run(self) -> Verified:
        seq, hash, to_xid = await self._chain()
        for month in [row["month"] for row in await self._conn.fetch(_STATEMENTS["months"])]:
            if self._full:
                break
            await self._month(month, to_xid)
        return Verified(
            seals=self._seals,
            rows=self._rows,
            unsealed=self._unsealed,
            dropped=tuple((f"{month:%Y-%m}", at) for month, (_, at) in sorted(self._dropped.items())),
            seq=seq,
            hash=hash.hex(),
            findings=tuple(self._findings),
        )

    @property
    def _full(self) -> bool:
        return len(self._findings) >= self._most

    def _find(self, kind: Kind, message: str, **where: Any) -> None:
        if not self._full:
            self._findings.append(Finding(kind, message, **where))

    async def _chain(self) -> tuple[int, bytes, int]:
        """Follows the links. Where they end: number, hash, and the transaction below which all is sealed."""
        seq, hash, to_xid, from_xid = 0, b"", 0, 0
        async for link in self._conn.cursor(_STATEMENTS["links"], prefetch=1000):
            month = f"{link['month']:%Y-%m}"
            where = {"month": month, "seal": link["seq"]}
            if link["seq"] != seq + 1:
                missing = (
                    f"link {seq + 1} is" if link["seq"] == seq + 2 else f"links {seq + 1} to {link['seq'] - 1} are"
                )
                self._find("chain", f"{missing} missing", **where)
            elif link["previous"] != hash:
                self._find("chain", f"link {link['seq']} does not follow the one before it", **where)
            if link["hash"] != _link_hash(link, month):
                self._find("chain", f"link {link['seq']} was altered", **where)
            if link["kind"] == "drop":
                self._dropped[link["month"]] = link["seq"], link["at"]
            else:
                if link["seq"] == seq + 1 and link["from_xid"] not in (to_xid, from_xid):
                    self._find("chain", f"link {link['seq']} does not begin where the one before it ends", **where)
                from_xid, to_xid = link["from_xid"], link["to_xid"]
            seq, hash = link["seq"], link["hash"]
            expected = self._published.pop(seq, None)
            if expected is not None and expected != hash.hex():
                self._find("published", f"link {seq} is not the one that was published", **where)
        for missing_seq in sorted(self._published):
            self._find("published", f"link {missing_seq}, which was published, is not there", seal=missing_seq)
        head = await self._conn.fetchrow(_STATEMENTS["end"])
        if head is None or (head["seq"], head["hash"]) != (seq, hash):
            ought = "nothing says where" if head is None else f"it ought to end with link {head['seq']}"
            self._find("head", f"the chain ends with link {seq}, but {ought}: the newest ones are missing", seal=seq)
        return seq, hash, max(to_xid, head["to_xid"] if head is not None else 0)

    async def _month(self, month: date, head: int) -> None:
        """Lays the rows of a month beside its seals, both in the order of transactions."""
        name = f"{month:%Y-%m}"
        rows = aiter(self._conn.cursor(_STATEMENTS["rows"], month, prefetch=2000))
        row = await anext(rows, None)
        if month in self._dropped:
            while row is not None and not self._full:
                self._find("inserted", f"a row of {name}, which retention has dropped", month=name, id=row["id"])
                row = await anext(rows, None)
            return
        async for seal in self._conn.cursor(_STATEMENTS["seals"], month, prefetch=100):
            self._seals += 1
            under: list[tuple[UUID, bytes]] = []
            while row is not None and row["xid"] < seal["to_xid"]:
                if row["xid"] < seal["from_xid"]:
                    self._find("inserted", "a row that no seal knows of", month=name, id=row["id"])
                else:
                    self._check_time(row, seal, name)
                    under.append((UUID(row["id"]), row_hash(row["words"])))
                row = await anext(rows, None)
            self._compare(under, seal, name)
            if self._full:
                return
        while row is not None and not self._full:
            if row["xid"] < head:
                self._find("inserted", "a row that no seal knows of", month=name, id=row["id"])
            else:
                self._unsealed += 1
            row = await anext(rows, None)

    def _check_time(self, row: Any, seal: asyncpg.Record, month: str) -> None:
        where = {"month": month, "seal": seal["seq"], "id": row["id"]}
        if seal["before_at"] is not None and row["xid"] > seal["before_xid"] and row["at"] < seal["before_at"] - _SLACK:
            self._find("backdated", "a row says that it was recorded before it was (or a clock was set back)", **where)
        elif row["at"] > seal["at"] + _SLACK:
            self._find("backdated", "a row says that it was recorded after it was sealed", **where)

    def _compare(self, rows: list[tuple[UUID, bytes]], seal: asyncpg.Record, month: str) -> None:
        digest = sha256(b"".join(hash for _, hash in rows)).digest()
        if seal["rows"] == len(rows) and digest == seal["digest"]:
            self._rows += len(rows)
            return
        before = len(self._findings)
        leaves: bytes = seal["leaves"]
        sealed = {
            UUID(bytes=leaves[start : start + 16]): leaves[start + 16 : start + _LEAF]
            for start in range(0, len(leaves), _LEAF)
        }
        where = {"month": month, "seal": seal["seq"]}
        if not rows:
            self._find("missing", f"all {seal['rows']} rows under link {seal['seq']} are gone", **where)
            return
        found = dict(rows)
        for id, beginning in sealed.items():
            if id not in found:
                self._find("missing", "a row is gone", id=str(id), **where)
            elif found[id][:8] != beginning:
                self._find("altered", "a row was altered", id=str(id), **where)
        for id in found.keys() - sealed.keys():
            self._find("inserted", "a row was inserted", id=str(id), **where)
        if len(self._findings) == before:
            self._find("altered", "some row was altered, and what would tell which one", **where)


def _link_hash(link: asyncpg.Record, month: str) -> bytes:
    values = (
        str(link["seq"]),
        link["kind"],
        month,
        str(link["from_xid"]),
        str(link["to_xid"]),
        str(link["rows"]),
        link["digest"].hex(),
        str(link["spelling"]),
        str(link["at_us"]),
        str(link["xid"]),
        link["previous"].hex(),
    )
    return row_hash(values)
