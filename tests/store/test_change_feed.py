"""The change feed in SQL loses nothing, in whatever order transactions commit."""

import asyncpg
import pytest
from msgspec import Struct

from bonfire.store import resources
from bonfire.store.pool import Database
from bonfire.store.reach import EVERYTHING


class Reader(Struct):
    """A reader that remembers how far it came, as one outside would."""

    database: Database
    tenant: str = "default"
    limit: int = 1000
    xid: str = "0"
    txid: int = 0

    async def read(self) -> list[tuple[str, str]]:
        """The (id, status) of what is new."""
        async with self.database.transaction(self.tenant, reach=EVERYTHING) as conn:
            rows = await conn.fetch(
                "select id, status::text, txid, xid::text from bonfire.changes('Patient', $1::text::xid8, $2, $3)",
                self.xid,
                self.txid,
                self.limit,
            )
        if rows:
            self.xid, self.txid = rows[-1]["xid"], rows[-1]["txid"]
        return [(row["id"], row["status"]) for row in rows]


async def test_a_lower_number_that_commits_later_is_not_lost(database: Database) -> None:
    reader = Reader(database)
    async with database.transaction("default", reach=EVERYTHING) as slow:
        low = await resources.create(slow, "Patient", "{}", id="slow")
        async with database.transaction("default", reach=EVERYTHING) as quick:
            high = await resources.create(quick, "Patient", "{}", id="quick")
        assert low.version < high.version

        # Committed, but behind a transaction that still runs: it waits for that one.
        assert await reader.read() == []
    assert await reader.read() == [("slow", "created"), ("quick", "created")]
    assert await reader.read() == []


async def test_a_transaction_that_began_first_and_wrote_last_is_not_lost(database: Database) -> None:
    reader = Reader(database)
    async with database.transaction("default", reach=EVERYTHING) as slow:
        await slow.fetchval("select pg_current_xact_id()")
        async with database.transaction("default", reach=EVERYTHING) as quick:
            first = await resources.create(quick, "Patient", "{}", id="quick")
        assert await reader.read() == []
        second = await resources.create(slow, "Patient", "{}", id="slow")
        assert second.version > first.version
    # In the order of the transactions' numbers, which is not that of the versions' numbers.
    assert await reader.read() == [("slow", "created"), ("quick", "created")]


async def test_every_version_comes_once_also_when_it_moves_to_the_history(database: Database) -> None:
    reader = Reader(database, limit=2)
    seen = []
    async with database.transaction("default", reach=EVERYTHING) as conn:
        await resources.create(conn, "Patient", "{}", id="p")
        await resources.create(conn, "Patient", "{}", id="q")
        await resources.update(conn, "Patient", "p", "{}")
    seen += await reader.read()
    async with database.transaction("default", reach=EVERYTHING) as conn:
        await resources.update(conn, "Patient", "q", "{}")
        await resources.delete(conn, "Patient", "p")
    while new := await reader.read():
        seen += new
    assert seen == [("p", "created"), ("q", "created"), ("p", "updated"), ("q", "updated"), ("p", "deleted")]


async def test_copied_rows_come_too(database: Database) -> None:
    reader = Reader(database, limit=700)
    async with database.owner() as conn:
        await conn.copy_records_to_table(
            "patient",
            columns=["id", "txid", "status", "resource"],
            records=[(f"p{n}", n, "created", "{}") for n in range(1, 2001)],
        )
    seen: list[str] = []
    while new := await reader.read():
        seen += [id for id, _ in new]
    assert seen == [f"p{n}" for n in range(1, 2001)]


async def test_rows_that_share_a_number_come_together(database: Database) -> None:
    reader = Reader(database, limit=2)
    async with database.owner() as conn:
        await conn.execute(
            "insert into patient (id, txid, resource) select 'p' || n, 7, '{}' from generate_series(1, 5) n"
        )
        await conn.execute("update patient set resource = '{}', txid = (select nextval('transaction_id_seq') + 7)")
    assert [sorted(await reader.read()) for _ in range(3)] == [
        [(f"p{n}", "created") for n in range(1, 6)],
        [(f"p{n}", "updated") for n in range(1, 6)],
        [],
    ]


async def test_a_tenant_reads_its_own(database: Database) -> None:
    async with database.transaction("north", reach=EVERYTHING) as conn:
        await resources.create(conn, "Patient", "{}", id="n")
    async with database.transaction("south", reach=EVERYTHING) as conn:
        await resources.create(conn, "Patient", "{}", id="s")
    assert await Reader(database, "north").read() == [("n", "created")]
    assert await Reader(database, "south").read() == [("s", "created")]


async def test_what_is_no_type_is_refused(database: Database) -> None:
    for name in ("nothing", 'patient"; drop table patient', "patient_history", "pg_class"):
        with pytest.raises(asyncpg.InvalidParameterValueError):
            async with database.transaction("default", reach=EVERYTHING) as conn:
                await conn.fetch("select * from bonfire.changes($1)", name)


async def test_it_goes_by_the_index(database: Database) -> None:
    async with database.owner() as conn:
        await conn.execute("insert into patient (id, resource) select 'p' || n, '{}' from generate_series(1, 5000) n")
        await conn.execute("update patient set resource = '{\"active\": true}'")
        await conn.execute("analyze patient, patient_history")
        for table in ("patient", "patient_history"):
            plan = await conn.fetch(
                f"explain select * from {table} where tenant = bonfire.current_tenant()"
                " and (xid, txid) > ('5'::xid8, 10) and xid < pg_snapshot_xmin(pg_current_snapshot())"
                " order by xid, txid limit 100"
            )
            text = "\n".join(row[0] for row in plan)
            assert f"Index Scan using {table}_tenant_xid_txid_idx" in text, text
            assert "Sort" not in text, text
