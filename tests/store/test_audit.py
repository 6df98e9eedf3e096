"""The audit trail in the database: append only, by tenant, in months, under seals in which any change shows."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from uuid import UUID

import asyncpg
import pytest

from bonfire.store import audit
from bonfire.store.audit import Event, time_ordered_id
from bonfire.store.audit_chain import Verified, spell, verify
from bonfire.store.pool import Database
from bonfire.store.reach import EVERYTHING, NOTHING, Clause, Reach
from bonfire.store.statements import read_statements
from support.told import listen, told

OLD = datetime(2020, 3, 15, 12, tzinfo=UTC)


def event(patient: str | None = "p1", **more: object) -> Event:
    stated = {"tenant": "north", "action": "R", "subtype": "read", "surface": "http", "patient": patient, **more}
    return Event(**stated)  # type: ignore[arg-type]  # each test gives what Event takes


@asynccontextmanager
async def app(database: Database, reach: Reach = EVERYTHING) -> AsyncIterator[asyncpg.Connection]:
    async with database.transaction("north", reach=reach) as conn:
        yield conn


async def append(database: Database, *events: Event) -> None:
    async with app(database) as conn:
        await audit.insert(conn, events or [event(f"p{number}") for number in range(5)])


async def append_old(database: Database, count: int = 5, at: datetime = OLD) -> None:
    """As the owner, who alone can say when."""
    async with database.owner() as conn:
        for number in range(count):
            await conn.execute(
                """insert into bonfire.audit (tenant, id, at, action, subtype, surface, patient)
                   values ('north', $1, $2, 'R', 'read', 'http', $3)""",
                time_ordered_id(),
                at + timedelta(seconds=number),
                f"p{number}",
            )


async def seal(database: Database) -> int | None:
    async with app(database) as conn:
        return await audit.seal(conn)


async def verified(database: Database, *published: tuple[int, str]) -> Verified:
    async with database.owner() as conn:
        return await verify(conn, published=published)


async def partition(database: Database) -> str:
    async with database.owner() as conn:
        return str(await conn.fetchval("select tableoid::regclass::text from bonfire.audit limit 1"))


async def tamper(database: Database, statement: str) -> None:
    """What somebody does who owns the tables, past the triggers."""
    async with database.owner() as conn:
        await conn.execute("set session_replication_role = replica")
        await conn.execute(statement.replace("{month}", await partition(database)))
        await conn.execute("reset session_replication_role")


def kinds(found: Verified) -> list[str]:
    return [finding.kind for finding in found.findings]


# ---- appending ------------------------------------------------------------------------------------------------------


async def test_the_server_can_append_and_nothing_else(database: Database) -> None:
    await append(database)
    for statement in (
        "update bonfire.audit set reason = 'x'",
        "delete from bonfire.audit",
        "truncate bonfire.audit",
        "insert into bonfire.audit (id, at, action, subtype, surface) select gen_random_uuid(), now(), 'R', '', ''",
        "insert into bonfire.audit (id, xid, action, subtype, surface) select gen_random_uuid(), '3', 'R', '', ''",
        "select from bonfire.audit_seal",
        "update bonfire.audit_head set seq = 0",
        "select bonfire.prune_audit(now())",
        "select bonfire.append_audit_seal('drop', now()::date, '0', '0', 0, '', '')",
        "select from bonfire_audit.rest",
    ):
        async with app(database) as conn:
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                async with conn.transaction():
                    await conn.execute(statement)


async def test_its_owner_changes_nothing_by_mistake(database: Database) -> None:
    await append(database)
    async with database.owner() as conn:
        for statement in (
            "update bonfire.audit set reason = 'x'",
            "delete from bonfire.audit",
            "truncate bonfire.audit",
        ):
            with pytest.raises(asyncpg.RestrictViolationError, match="append only"):
                await conn.execute(statement)


async def test_who_may_not_read_the_trail_sees_none_of_it(database: Database) -> None:
    await append(database, event("p1"), event("p2"), event(None))

    async def seen(tenant: str, *words: str) -> int:
        reach = Reach.of([Clause(frozenset(frozenset([word]) for word in words))]) if words else NOTHING
        async with database.transaction(tenant, reach=reach) as conn:
            return int(await conn.fetchval("select count(*) from bonfire.audit"))

    assert await seen("north") == 0
    assert await seen("north", "type:Observation") == 0
    assert await seen("north", "type:AuditEvent") == 3
    assert await seen("north", "type:AuditEvent", "patient:p1") == 1
    assert await seen("north", "type:AuditEvent", "patient:") == 1
    assert await seen("south", "type:AuditEvent") == 0


async def test_new_events_are_told_once_a_statement(database: Database) -> None:
    async with database.owner() as conn:
        await listen(conn)
        await append(database, event("p1"), event("p2"), event("p1"), event(None))
        await append(database, event(None))
        await append(database, *(event(f"p{number}") for number in range(101)))
        messages = await told(conn)
    assert [message["tenant"] for message in messages] == ["north"] * 3
    assert messages[0] == {"tenant": "north", "source": "AuditEvent", "patients": ["p1", "p2"], "views": []}
    assert [message["patients"] for message in messages[1:]] == [[], None]


# ---- months ---------------------------------------------------------------------------------------------------------


async def test_a_row_without_its_month_waits_and_is_moved(database: Database) -> None:
    await append_old(database)
    assert await partition(database) == "bonfire_audit.rest"
    async with app(database) as conn:
        assert await audit.keep_months(conn) == 5
        assert await audit.keep_months(conn) == 0
    assert await partition(database) == "bonfire_audit.audit_2020_03"
    far = datetime(2099, 1, 31, tzinfo=UTC)
    await append_old(database, 2, far)
    async with app(database) as conn:
        assert await audit.keep_months(conn) == 2
    await seal(database)
    # Their times are no times at which they can have been recorded: that is said of those of the future.
    assert kinds(await verified(database)) == ["backdated"] * 2


async def test_rows_of_today_go_to_their_month(database: Database) -> None:
    await append(database)
    assert await partition(database) == f"bonfire_audit.audit_{datetime.now(UTC):%Y_%m}"


# ---- seals ----------------------------------------------------------------------------------------------------------


async def test_both_spell_a_row_in_the_same_way(database: Database) -> None:
    await append(
        database,
        event(),
        event(
            None,
            id=UUID(int=7),
            user="ü",
            name="5:a-",
            kind="person",
            roles=("a", "", "-", "1:b"),
            behalf_of="x",
            what="Patient/p1",
            query="q",
            policies=("p",),
            purpose="TREAT",
            outcome=12,
            reason='line\nbreak "quoted"',
            address="::1",
            request="r",
            count=3,
            since=datetime(1969, 12, 31, 23, 59, 59, 999999, tzinfo=UTC),
            detail={"b": 1, "aa": True, "a": "ä"},
        ),
    )
    async with database.owner() as conn:
        await conn.execute("set timezone = 'Asia/Kathmandu'")
        await conn.execute("set datestyle = 'German'")
        in_sql = await conn.fetch("select bonfire.audit_spelling_1(a) as s from bonfire.audit a order by a.xid, a.id")
        month = datetime.now(UTC).date().replace(day=1)
        rows = await conn.fetch(read_statements("audit_chain")["rows"], month)
        here = [spell(row["words"]) for row in rows]
    assert [row["s"] for row in in_sql] == here


def test_the_spelling_is_as_it_always_was() -> None:
    assert spell(["clerk", None, "", ["a", "é"], []]) == "5:clerk-0:7:1:a2:é0:"


async def test_what_is_sealed_is_found_to_be_so(database: Database) -> None:
    assert await seal(database) == 0
    await append(database)
    assert await seal(database) == 5
    assert await seal(database) == 0
    await append(database)
    await append(database)
    assert await seal(database) == 10
    await append(database)
    found = await verified(database)
    assert (found.seals, found.rows, found.unsealed, found.seq) == (2, 15, 5, 2)
    assert found.findings == ()
    async with app(database) as conn:
        head = await audit.head(conn)
    assert (head.seq, head.hash) == (found.seq, found.hash)
    assert (await verified(database, (found.seq, found.hash))).findings == ()


async def test_nothing_is_sealed_past_a_transaction_that_still_runs(database: Database) -> None:
    async with app(database) as slow:
        await audit.insert(slow, [event("slow")])
        await append(database)
        assert await seal(database) == 0
    assert await seal(database) == 6
    assert (await verified(database)).findings == ()


async def test_only_one_seals_at_a_time(database: Database) -> None:
    await append(database)
    async with app(database) as conn:
        assert await audit.seal(conn) == 5
        assert await seal(database) is None
    assert (await verified(database)).findings == ()


async def test_a_long_way_is_sealed_in_parts(database: Database) -> None:
    for _ in range(4):
        await append(database)
    for sealed in (10, 10, 0):
        async with app(database) as conn:
            assert await conn.fetchval("select bonfire.seal_audit(10)") == sealed
    found = await verified(database)
    assert (found.rows, found.findings) == (20, ())


async def test_two_months_have_two_links_of_one_pass(database: Database) -> None:
    await append_old(database)
    await append(database)
    assert await seal(database) == 10
    found = await verified(database)
    assert (found.seals, found.rows, found.findings) == (2, 10, ())


# ---- tampering ------------------------------------------------------------------------------------------------------


@pytest.fixture
async def sealed(database: Database) -> Database:
    for _ in range(3):
        await append(database)
        await seal(database)
    assert (await verified(database)).findings == ()
    return database


ID = "(select id from bonfire.audit where patient = 'p2' order by at offset 1 limit 1)"


@pytest.mark.parametrize(
    "change",
    [
        "reason = 'nothing'",
        "user_id = 'other'",
        "at = at + interval '1 microsecond'",
        "detail = '{\"a\": 1}'",
        "patient = null",
    ],
)
async def test_an_altered_row_is_named(sealed: Database, change: str) -> None:
    async with sealed.owner() as conn:
        id = await conn.fetchval(f"select {ID}")
    await tamper(sealed, f"update {{month}} set {change} where id = {ID}")
    [finding] = (await verified(sealed)).findings
    assert (finding.kind, finding.seal, finding.id) == ("altered", 2, str(id))


async def test_a_row_that_is_gone_is_named(sealed: Database) -> None:
    async with sealed.owner() as conn:
        id = await conn.fetchval(f"select {ID}")
    await tamper(sealed, f"delete from {{month}} where id = {ID}")
    [finding] = (await verified(sealed)).findings
    assert (finding.kind, finding.seal, finding.id) == ("missing", 2, str(id))


async def test_a_row_put_among_sealed_ones_is_named(sealed: Database) -> None:
    await tamper(
        sealed,
        f"""insert into {{month}} (tenant, id, at, xid, action, subtype, surface)
            select tenant, '00000000-0000-0000-0000-000000000001', at, xid, action, subtype, surface
            from bonfire.audit where id = {ID}""",
    )
    [finding] = (await verified(sealed)).findings
    assert (finding.kind, finding.seal, finding.id) == ("inserted", 2, "00000000-0000-0000-0000-000000000001")


async def test_a_row_put_where_no_seal_looks_is_named(sealed: Database) -> None:
    await append_old(sealed, 1)
    await tamper(sealed, "update bonfire_audit.rest set xid = '5'")
    [finding] = (await verified(sealed)).findings
    assert (finding.kind, finding.month) == ("inserted", "2020-03")


async def test_a_row_that_says_it_is_old_is_named(sealed: Database) -> None:
    """Sealed as new, since it is."""
    await append_old(sealed, 1)
    await seal(sealed)
    [finding] = (await verified(sealed)).findings
    assert (finding.kind, finding.month) == ("backdated", "2020-03")


async def test_a_newest_link_that_is_gone_is_missed(sealed: Database) -> None:
    await tamper(sealed, "delete from bonfire.audit_seal where seq = 3")
    assert "head" in kinds(await verified(sealed))


async def test_a_link_that_is_gone_or_altered_is_missed(sealed: Database) -> None:
    await tamper(sealed, "update bonfire.audit_seal set rows = 4 where seq = 2")
    assert kinds(await verified(sealed))[0] == "chain"
    await tamper(sealed, "delete from bonfire.audit_seal where seq = 2")
    found = (await verified(sealed)).findings
    assert (found[0].kind, found[0].message) == ("chain", "link 2 is missing")


async def test_a_month_that_is_dropped_by_hand_is_missed(sealed: Database) -> None:
    await tamper(sealed, "drop table {month}")
    found = (await verified(sealed)).findings
    assert [finding.kind for finding in found] == ["missing"] * 3
    assert found[0].message == "all 5 rows under link 1 are gone"


async def test_a_chain_made_anew_is_not_the_one_that_was_published(sealed: Database) -> None:
    async with app(sealed) as conn:
        head = await audit.head(conn)
    await tamper(sealed, "delete from {month} where patient = 'p2'")
    await tamper(sealed, "truncate bonfire.audit_seal")
    await tamper(sealed, "update bonfire.audit_head set seq = 0, to_xid = '0', hash = ''")
    await seal(sealed)
    # By itself it is a perfect chain.
    assert (await verified(sealed)).findings == ()
    assert kinds(await verified(sealed, (head.seq, head.hash), (99, "00"))) == ["published"] * 2


async def test_without_leaves_it_is_still_found(sealed: Database) -> None:
    await tamper(sealed, f"update {{month}} set reason = 'x' where id = {ID}")
    await tamper(sealed, "update bonfire.audit_seal set leaves = decode(repeat('00', 24 * 5), 'hex')")
    assert kinds(await verified(sealed))


async def test_a_database_from_a_dump_is_told_what_to_do(sealed: Database) -> None:
    await tamper(sealed, "update bonfire.audit_head set to_xid = '99999999'")
    with pytest.raises(asyncpg.ObjectNotInPrerequisiteStateError, match="numbered below"):
        await seal(sealed)


# ---- retention ------------------------------------------------------------------------------------------------------


async def test_retention_takes_whole_months_and_says_so(database: Database) -> None:
    await append_old(database)
    await append(database)
    async with app(database) as conn:
        await audit.keep_months(conn)
    before = datetime(2026, 1, 1, tzinfo=UTC)
    async with database.owner() as conn:
        with pytest.raises(asyncpg.ObjectNotInPrerequisiteStateError, match="2020-03 is not sealed"):
            await audit.prune(conn, before)
    await seal(database)
    async with database.owner() as conn:
        assert await audit.prune(conn, datetime(2020, 3, 31, tzinfo=UTC)) == []
        assert await audit.prune(conn, before) == [("2020-03", 5)]
        assert await audit.prune(conn, before) == []
    await append(database)
    await seal(database)
    found = await verified(database)
    assert [month for month, _ in found.dropped] == ["2020-03"]
    assert (found.rows, found.findings) == (10, ())
    await append_old(database, 1)
    assert kinds(await verified(database)) == ["inserted"]


async def test_the_last_month_is_never_dropped(database: Database) -> None:
    async with database.owner() as conn:
        with pytest.raises(asyncpg.InvalidParameterValueError, match="is kept"):
            await audit.prune(conn, datetime.now(UTC))
