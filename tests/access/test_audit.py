"""The trail of a process: what is recorded is on disk, once, and what can't be is refused."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, get_args

import asyncpg
import pytest

from bonfire.access.audit import Event, Subtype, Trail, event_of, write
from bonfire.access.principal import Principal
from bonfire.store.cluster import Cluster
from bonfire.store.migrate import migrate
from bonfire.store.pool import Database
from bonfire.store.reach import EVERYTHING, Reach
from bonfire_protocol.faults import Fault, FaultCode

AMARA = Principal("north", "amara", "Dr. Amara Okafor", roles=frozenset({"nurse", "clinician"}))


def read_of(patient: str, **more: Any) -> Event:
    return event_of(AMARA, "read", "http", patient=patient, what=f"Patient/{patient}", **more)


async def rows(database: Database, tenant: str = "north") -> list[asyncpg.Record]:
    async with database.transaction(tenant, reach=EVERYTHING) as conn:
        return list(await conn.fetch("select * from bonfire.audit order by at, id"))


class Failing:
    """A database whose transactions end with the next of `errors`, before or after they are committed."""

    def __init__(self, database: Database, errors: list[tuple[str, Exception]]) -> None:
        self.database = database
        self.errors = errors
        self.begun = 0

    @asynccontextmanager
    async def transaction(self, tenant: str, *, reach: Reach) -> AsyncIterator[asyncpg.Connection]:
        self.begun += 1
        when, error = self.errors.pop(0) if self.errors else ("never", RuntimeError())
        if when == "before":
            raise error
        async with self.database.transaction(tenant, reach=reach) as conn:
            yield conn
        if when == "after":
            raise error


def trail_on(database: Any, *, sleep: Callable[[float], Any] | None = None, **more: Any) -> Trail:
    async def no_sleep(seconds: float) -> None:
        await asyncio.sleep(0)

    return Trail(database, sleep=sleep or no_sleep, **more)


async def test_what_is_recorded_is_on_disk_with_all_that_was_said(database: Database) -> None:
    principal = Principal("north", "bot", "Scribe", roles=frozenset({"b", "a"}), kind="agent", behalf_of="amara")
    event = event_of(
        principal,
        "search",
        "socket",
        patient="p1",
        query="Observation?code&date",
        policies=["clinician", "label"],
        outcome=4,
        reason="she asked",
        address="192.0.2.7",
        request="c1",
        count=3,
        detail={"page": 2},
    )
    await trail_on(database).record(event)
    [row] = await rows(database)
    assert row["id"] == event.id
    assert (row["action"], row["subtype"], row["outcome"], row["surface"]) == ("E", "search", 4, "socket")
    assert (row["user_id"], row["user_name"], row["user_kind"], row["behalf_of"]) == ("bot", "Scribe", "agent", "amara")
    assert (row["roles"], row["policies"], row["purpose"]) == (["a", "b"], ["clinician", "label"], "TREAT")
    assert (row["patient"], row["what"], row["query"]) == ("p1", None, "Observation?code&date")
    assert (row["reason"], row["address"], row["request"], row["count"]) == ("she asked", "192.0.2.7", "c1", 3)
    assert row["detail"] == '{"page": 2}'


@pytest.mark.parametrize("subtype", get_args(Subtype))
async def test_each_kind_can_be_recorded(database: Database, subtype: Subtype) -> None:
    await trail_on(database).record(event_of(AMARA, subtype, "cli"))
    assert [row["subtype"] for row in await rows(database)] == [subtype]


async def test_many_at_once_are_few_commits(database: Database) -> None:
    trail = trail_on(database)
    await asyncio.gather(*(trail.record(read_of(f"p{number}")) for number in range(300)))
    assert trail.use.recorded == 300
    assert trail.use.batches <= 3
    assert trail.pending == 0
    assert len(await rows(database)) == 300


async def test_tenants_go_each_by_their_own_transactions(database: Database) -> None:
    trail = trail_on(database)
    south = event_of(Principal("south", "amara", "Amara"), "read", "http")
    await trail.record(read_of("p1"), south)
    assert len(await rows(database)) == 1
    assert len(await rows(database, "south")) == 1


async def test_a_batch_that_was_cut_off_is_written_once(database: Database) -> None:
    """Nobody knows whether it was: the commit's answer is lost, or the connection before it."""
    for when in ("before", "after"):
        failing = Failing(database, [(when, Fault(FaultCode.unavailable, "gone")), (when, OSError())])
        trail = trail_on(failing)
        await trail.record(read_of("p1"), read_of("p2"))
        assert failing.begun == 3
        assert trail.use.recorded == 2
    assert len(await rows(database)) == 4


async def test_an_attempt_that_is_still_under_way_is_waited_for(database: Database) -> None:
    """Its connection was cut, and Postgres has not noticed yet: it may still commit."""
    event = read_of("p1")
    failing = Failing(database, [("before", Fault(FaultCode.unavailable, "gone"))])
    trail = trail_on(failing)
    lock = int.from_bytes(event.id.bytes[-8:], signed=True)
    async with database.transaction("north", reach=EVERYTHING) as zombie:
        await zombie.execute("select pg_advisory_xact_lock($1)", lock)
        await write(zombie, [event])
        recording = asyncio.create_task(trail.record(event))
        async with database.owner() as conn:
            while not await conn.fetchval("select count(*) from pg_locks where locktype = 'advisory' and not granted"):
                await asyncio.sleep(0.01)
    await recording
    assert len(await rows(database)) == 1


async def test_where_the_database_stays_away_nothing_may_be_answered(database: Database) -> None:
    times = iter([0.0, 1.0, 6.0])
    failing = Failing(database, [("before", Fault(FaultCode.unavailable, "gone"))] * 2)
    trail = trail_on(failing, time=lambda: next(times))
    with pytest.raises(Fault, match="can't be written") as refused:
        await trail.record(read_of("p1"))
    assert refused.value.code is FaultCode.unavailable
    assert trail.pending == 0
    assert await rows(database) == []


async def test_a_full_disk_passes(database: Database) -> None:
    trail = trail_on(Failing(database, [("before", asyncpg.DiskFullError("no space"))]))
    await trail.record(read_of("p1"))
    assert len(await rows(database)) == 1


async def test_an_event_that_can_not_be_written_spoils_no_other(database: Database) -> None:
    trail = trail_on(database)
    bad = read_of("p2", detail={"x": "y" * 5000})
    good = [trail.submit(read_of("p1")), trail.submit(read_of("p3"))]
    spoiled = trail.submit(bad)
    trail.later(bad)
    await asyncio.gather(*good)
    with pytest.raises(Fault, match="can't be written"):
        await spoiled
    await trail.close()
    assert [row["subtype"] for row in await rows(database)] == ["read", "read", "lost"]
    assert trail.use.lost == 1


async def test_whoever_would_be_one_too_many_is_refused(database: Database) -> None:
    trail = trail_on(database, most=2)
    waiting = [trail.submit(read_of("p1")), trail.submit(read_of("p2"))]
    with pytest.raises(Fault) as refused:
        await trail.record(read_of("p3"))
    assert refused.value.code is FaultCode.busy
    await asyncio.gather(*waiting)


async def test_what_there_was_no_room_for_is_told(database: Database) -> None:
    trail = trail_on(database, most=1)
    for number in range(3):
        trail.later(read_of(f"p{number}"))
    await trail.close()
    found = await rows(database)
    assert sorted((row["subtype"], row["count"], row["outcome"]) for row in found) == [
        ("lost", 2, 8),
        ("read", None, 0),
    ]
    assert trail.use.lost == 2


async def test_closing_writes_what_nobody_waits_for(database: Database) -> None:
    trail = trail_on(database)
    for number in range(1200):
        trail.later(read_of(f"p{number}"))
    await trail.close()
    assert len(await rows(database)) == 1200
    with pytest.raises(Fault, match="stopping"):
        await trail.record(read_of("p1"))


async def test_what_nobody_waits_for_outlives_an_outage(database: Database) -> None:
    # Each look at the clock is an hour later: no batch is tried twice.
    hours = iter(range(0, 3600_000, 3600))
    failing = Failing(database, [("before", Fault(FaultCode.unavailable, "gone"))] * 5)
    trail = trail_on(failing, time=lambda: next(hours))
    trail.later(read_of("p1"))
    with pytest.raises(Fault):
        await trail.record(read_of("p2"))
    while trail.pending:
        await asyncio.sleep(0.01)
    assert [row["patient"] for row in await rows(database)] == ["p1"]


async def test_closing_says_what_is_lost(database: Database) -> None:
    hours = iter(range(0, 3600_000, 3600))
    trail = trail_on(Failing(database, [("before", OSError())] * 50), time=lambda: next(hours))
    trail.later(read_of("p1"))
    with pytest.raises(RuntimeError, match="1 events"):
        await trail.close()


async def test_one_who_has_gone_away_is_recorded_all_the_same(database: Database) -> None:
    trail = trail_on(database)
    trail.submit(read_of("p1")).cancel()
    await trail.close()
    assert len(await rows(database)) == 1


async def test_a_write_and_its_trace_are_one(database: Database) -> None:
    async def fail() -> None:
        async with database.transaction("north", reach=EVERYTHING) as conn:
            await write(conn, [read_of("p1")])
            raise RuntimeError("no")

    with pytest.raises(RuntimeError, match="no"):
        await fail()
    assert await rows(database) == []
    async with database.transaction("north", reach=EVERYTHING) as conn:
        await write(conn, [])
        await write(conn, [read_of("p1"), read_of("p2")])
    assert len(await rows(database)) == 2


async def test_another_tenants_event_is_no_part_of_a_write(database: Database) -> None:
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        async with database.transaction("south", reach=EVERYTHING) as conn:
            await write(conn, [read_of("p1")])


async def test_a_text_is_bounded_and_has_no_nul(database: Database) -> None:
    await trail_on(database).record(read_of("p1", reason="a\0b" + "c" * 5000))
    [row] = await rows(database)
    assert row["reason"].startswith("a\ufffdbccc")
    assert len(row["reason"]) == 1000


async def test_postgres_restarts_while_it_is_written_to(own_cluster: Cluster) -> None:
    """Every event whose caller was told that it is on disk is there, and each of all of them once."""
    await migrate(own_cluster.url)
    database = await Database.connect(own_cluster.url)
    trail = Trail(database, patience=60.0)
    recorded: set[str] = set()
    restarted = asyncio.Event()

    async def reader(number: int) -> None:
        turn = 0
        while not restarted.is_set():
            event = read_of(f"p{number}-{turn}")
            await trail.record(event)
            recorded.add(str(event.id))
            turn += 1

    readers = [asyncio.create_task(reader(number)) for number in range(20)]
    while len(recorded) < 100:
        await asyncio.sleep(0.01)
    await asyncio.to_thread(own_cluster.stop)
    await asyncio.to_thread(own_cluster.start)
    before = len(recorded)
    while len(recorded) < before + 100:
        await asyncio.sleep(0.01)
    restarted.set()
    await asyncio.gather(*readers)
    await trail.close()
    ids = [str(row["id"]) for row in await rows(database)]
    assert trail.use.failed
    assert len(ids) == len(set(ids))
    assert set(ids) == recorded
    await database.close()


async def test_refusals_are_counted_by_where_they_were_asked(database: Database) -> None:
    trail = trail_on(database)
    trail.later(event_of(AMARA, "deny", "socket", outcome=4))
    await trail.record(event_of(AMARA, "deny", "http", outcome=4), event_of(AMARA, "deny", "http", outcome=4))
    await trail.record(read_of("p1"))
    await trail.close()
    assert trail.use.denied == {"socket": 1, "http": 2}
