"""Records through the Python functions: versions, faults, tenants, concurrency."""

import asyncio
import json
from datetime import UTC, datetime, timedelta

import asyncpg
import pytest

from bonfire.store import resources
from bonfire.store.pool import Database
from bonfire.store.reach import EVERYTHING
from bonfire_protocol.faults import Fault, FaultCode
from support.waiting import somebody_waits

ADA = '{"resourceType": "Patient", "name": [{"family": "Lovelace"}], "active": true}'
ADA_MARRIED = '{"resourceType": "Patient", "name": [{"family": "King"}], "active": true}'


async def test_a_resource_comes_back_as_it_was_put_in(database: Database) -> None:
    given = """{"resourceType": "Observation", "id": "ignored", "status": "final",
        "meta": {"versionId": "77", "lastUpdated": "2001-01-01T00:00:00Z", "profile": ["http://example.org/p"]},
        "valueQuantity": {"value": 235.40, "unit": "ü\\n\\u0001"}, "component": [{"valueQuantity": {"value": 0.000}},
        {"valueQuantity": {"value": 12345678901234567890.1234567890}}], "extension": []}"""
    async with database.transaction("default", reach=EVERYTHING) as conn:
        created = await resources.create(conn, "Observation", given, id="o1")
        read = await resources.read(conn, "Observation", "o1")

    assert read == created
    assert (created.resource_type, created.id, created.status) == ("Observation", "o1", "created")
    for spelling in ("235.40", "0.000", "12345678901234567890.1234567890"):
        assert spelling in created.resource
    expected = json.loads(given)
    expected["id"] = "o1"
    expected["meta"] = {
        "versionId": str(created.version),
        "lastUpdated": created.last_updated.strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
        "profile": ["http://example.org/p"],
    }
    assert json.loads(created.resource) == expected


async def test_what_the_columns_hold_is_not_stored_twice(database: Database) -> None:
    async with database.transaction("default", reach=EVERYTHING) as conn:
        await resources.create(
            conn,
            "Patient",
            '{"resourceType": "Patient", "id": "x", "meta": {"versionId": "1"}, "active": true}',
            id="p",
        )
        await resources.update(conn, "Patient", "p", '{"id": "p", "meta": {"lastUpdated": "2001", "source": "s"}}')
        stored = await conn.fetch(
            "select resource::text from patient union all select resource::text from patient_history"
        )
    assert [row["resource"] for row in stored] == ['{"meta": {"source": "s"}}', '{"active": true}']


async def test_an_id_is_made_when_none_is_given(database: Database) -> None:
    async with database.transaction("default", reach=EVERYTHING) as conn:
        first = await resources.create(conn, "Patient", ADA)
        second = await resources.create(conn, "Patient", ADA)
    assert len({first.id, second.id}) == 2
    assert len(first.id) == 36


async def test_a_taken_id_is_refused_and_the_transaction_goes_on(database: Database) -> None:
    async with database.transaction("default", reach=EVERYTHING) as conn:
        first = await resources.create(conn, "Patient", ADA, id="p")
        with pytest.raises(Fault) as refused:
            await resources.create(conn, "Patient", ADA_MARRIED, id="p")
        assert refused.value.code is FaultCode.duplicate_id
        assert await resources.read(conn, "Patient", "p") == first


async def test_every_version_is_kept(database: Database) -> None:
    async with database.transaction("default", reach=EVERYTHING) as conn:
        v1 = await resources.create(conn, "Patient", ADA, id="p")
        v2 = await resources.update(conn, "Patient", "p", ADA_MARRIED)
        v3 = await resources.delete(conn, "Patient", "p")
        assert v3 is not None
        v4 = await resources.update(conn, "Patient", "p", ADA)
        v5 = await resources.update(conn, "Patient", "p", ADA_MARRIED, if_match=v4.version)

        assert [v.status for v in (v1, v2, v3, v4, v5)] == ["created", "updated", "deleted", "recreated", "updated"]
        assert v1.version < v2.version < v3.version < v4.version < v5.version
        assert await resources.history(conn, "Patient", "p") == [v5, v4, v3, v2, v1]
        for version in (v1, v2, v3, v4, v5):
            assert await resources.vread(conn, "Patient", "p", version.version) == version
        assert await resources.vread(conn, "Patient", "p", v5.version + 1) is None
        assert "King" in v3.resource, "a tombstone repeats the resource as it was last"
        assert await resources.history(conn, "Patient", "nobody") == []


async def test_history_goes_in_pages(database: Database) -> None:
    async with database.transaction("default", reach=EVERYTHING) as conn:
        versions = [await resources.create(conn, "Patient", ADA, id="p")]
        for _ in range(6):
            versions.insert(0, await resources.update(conn, "Patient", "p", ADA))
        first = await resources.history(conn, "Patient", "p", limit=3)
        second = await resources.history(conn, "Patient", "p", limit=3, before=first[-1].version)
        third = await resources.history(conn, "Patient", "p", limit=3, before=second[-1].version)
        recent = await resources.history(conn, "Patient", "p", since=versions[2].last_updated)
    assert first + second + third == versions
    assert recent == versions[:3]


async def test_a_deleted_record_is_gone_for_readers(database: Database) -> None:
    async with database.transaction("default", reach=EVERYTHING) as conn:
        await resources.create(conn, "Patient", ADA, id="p")
        tombstone = await resources.delete(conn, "Patient", "p")
        assert tombstone is not None
        assert tombstone.status == "deleted"
        assert await resources.read(conn, "Patient", "p") is None
        assert await resources.delete(conn, "Patient", "p") is None
        assert await resources.delete(conn, "Patient", "never") is None
        assert len(await resources.history(conn, "Patient", "p")) == 2


async def test_a_version_that_is_not_current_is_refused(database: Database) -> None:
    async with database.transaction("default", reach=EVERYTHING) as conn:
        v1 = await resources.create(conn, "Patient", ADA, id="p")
        v2 = await resources.update(conn, "Patient", "p", ADA_MARRIED, if_match=v1.version)
        for refused in (
            resources.update(conn, "Patient", "p", ADA, if_match=v1.version),
            resources.delete(conn, "Patient", "p", if_match=v1.version),
        ):
            with pytest.raises(Fault) as fault:
                await refused
            assert fault.value.code is FaultCode.version_conflict
            assert fault.value.next == "resync"
            assert (fault.value.field, fault.value.expected, fault.value.got) == (
                "version",
                str(v1.version),
                str(v2.version),
            )
        assert await resources.delete(conn, "Patient", "p", if_match=v2.version) is not None


async def test_what_is_not_there_is_refused(database: Database) -> None:
    async with database.transaction("default", reach=EVERYTHING) as conn:
        v1 = await resources.create(conn, "Patient", ADA, id="p")
        await resources.delete(conn, "Patient", "p")
        for refused, code in (
            (resources.update(conn, "Patient", "never", ADA), FaultCode.not_found),
            (resources.update(conn, "Patient", "never", ADA, if_match=1), FaultCode.not_found),
            (resources.delete(conn, "Patient", "never", if_match=1), FaultCode.not_found),
            (resources.update(conn, "Patient", "p", ADA, if_match=v1.version), FaultCode.gone),
            (resources.delete(conn, "Patient", "p", if_match=v1.version), FaultCode.gone),
        ):
            with pytest.raises(Fault) as fault:
                await refused
            assert fault.value.code is code


@pytest.mark.parametrize(
    "resource",
    [
        "no json",
        "[1]",
        '"text"',
        "7",
        "null",
        '{"a": "\\u0000"}',
        '{"resourceType": "Person", "ssn": "secret-123"}',
        '{"n": 1e999999}',
    ],
)
async def test_what_is_no_resource_is_refused_and_not_quoted(database: Database, resource: str) -> None:
    with pytest.raises(Fault) as fault:
        async with database.transaction("default", reach=EVERYTHING) as conn:
            await resources.create(conn, "Patient", resource, id="p")
    assert fault.value.code is FaultCode.bad_arguments
    assert fault.value.field == "resource"
    assert "secret" not in str(fault.value)


async def test_an_unknown_type_is_refused(database: Database) -> None:
    async with database.transaction("default", reach=EVERYTHING) as conn:
        with pytest.raises(Fault) as fault:
            await resources.read(conn, "patient; drop table patient", "p")
    assert fault.value.code is FaultCode.unsupported


async def test_as_of_reads_what_was_current_then(database: Database) -> None:
    at = datetime(2024, 5, 1, 12, tzinfo=UTC)
    hour = timedelta(hours=1)
    async with database.owner() as conn:
        await conn.execute("insert into patient (id, ts, resource) values ('p', $1, '{\"gender\": \"male\"}')", at)
        await conn.execute('update patient set resource = \'{"gender": "other"}\', ts = $1', at + hour)
        await conn.execute(
            "insert into patient_history (id, txid, ts, status)"
            " values ('p', nextval('transaction_id_seq'), $1, 'deleted')",
            at + 2 * hour,
        )
        await conn.execute("delete from patient")
        await conn.execute(
            "insert into patient (id, ts, resource) values ('p', $1, '{\"gender\": \"female\"}')", at + 3 * hour
        )

    async with database.transaction("default", reach=EVERYTHING) as conn:

        async def gender(when: datetime) -> str | None:
            version = await resources.as_of(conn, "Patient", "p", when)
            return None if version is None else str(json.loads(version.resource)["gender"])

        second = timedelta(seconds=1)
        assert [await gender(at + n * hour - second) for n in range(5)] == [None, "male", "other", None, "female"]
        assert [await gender(at + n * hour) for n in range(5)] == ["male", "other", None, "female", "female"]


async def test_many_at_once(database: Database) -> None:
    rows = [(f"p{n:04}", f'{{"resourceType": "Patient", "multipleBirthInteger": {n}}}') for n in range(2000)]
    async with database.transaction("default", reach=EVERYTHING) as conn:
        created = await resources.create_many(conn, "Patient", rows)
        assert [version.id for version in created] == [id for id, _ in rows]
        assert json.loads(created[1234].resource)["multipleBirthInteger"] == 1234
        assert await resources.read(conn, "Patient", "p0042") == created[42]
        assert await resources.create_many(conn, "Patient", []) == []
    with pytest.raises(Fault) as fault:
        async with database.transaction("default", reach=EVERYTHING) as conn:
            await resources.create_many(conn, "Patient", [("new", ADA), ("p0001", ADA)])
    assert fault.value.code is FaultCode.duplicate_id
    async with database.transaction("default", reach=EVERYTHING) as conn:
        assert await resources.read(conn, "Patient", "new") is None


async def test_two_tenants_may_have_the_same_id_and_never_meet(database: Database) -> None:
    async with database.transaction("north", reach=EVERYTHING) as conn:
        north = await resources.create(conn, "Patient", ADA, id="p")
    async with database.transaction("south", reach=EVERYTHING) as conn:
        assert await resources.read(conn, "Patient", "p") is None
        assert await resources.vread(conn, "Patient", "p", north.version) is None
        with pytest.raises(Fault):
            await resources.update(conn, "Patient", "p", ADA, if_match=north.version)
        assert await resources.delete(conn, "Patient", "p") is None
        south = await resources.create(conn, "Patient", ADA_MARRIED, id="p")
        assert await resources.history(conn, "Patient", "p") == [south]
        assert await resources.delete(conn, "Patient", "p") is not None
    async with database.transaction("north", reach=EVERYTHING) as conn:
        assert await resources.read(conn, "Patient", "p") == north
        assert await resources.history(conn, "Patient", "p") == [north]


async def test_of_two_writers_with_the_same_version_one_wins(database: Database) -> None:
    async with database.transaction("default", reach=EVERYTHING) as conn:
        v1 = await resources.create(conn, "Patient", ADA, id="p")

    async def write(name: str) -> int | FaultCode:
        try:
            async with database.transaction("default", reach=EVERYTHING) as conn:
                resource = f'{{"name": [{{"family": "{name}"}}]}}'
                return (await resources.update(conn, "Patient", "p", resource, if_match=v1.version)).version
        except Fault as fault:
            return fault.code

    outcomes = await asyncio.gather(*(write(f"n{n}") for n in range(8)))
    assert outcomes.count(FaultCode.version_conflict) == 7


async def test_versions_go_up_however_many_write_at_once(database: Database) -> None:
    async with database.transaction("default", reach=EVERYTHING) as conn:
        await resources.create(conn, "Patient", ADA, id="p")

    async def write() -> None:
        for _ in range(20):
            async with database.transaction("default", reach=EVERYTHING) as conn:
                await resources.update(conn, "Patient", "p", ADA)

    await asyncio.gather(*(write() for _ in range(6)))
    async with database.transaction("default", reach=EVERYTHING) as conn:
        versions = await resources.history(conn, "Patient", "p", limit=1000)
    assert len(versions) == 121
    numbers = [version.version for version in versions]
    assert numbers == sorted(set(numbers), reverse=True)
    times = [version.last_updated for version in versions]
    assert times == sorted(times, reverse=True)


async def test_a_create_that_waited_for_a_delete_is_done_again_and_recreates(database: Database) -> None:
    async with database.transaction("default", reach=EVERYTHING) as conn:
        await resources.create(conn, "Patient", ADA, id="p")

    async def create() -> resources.Version:
        while True:
            try:
                async with database.transaction("default", reach=EVERYTHING) as conn:
                    return await resources.create(conn, "Patient", ADA_MARRIED, id="p")
            except asyncpg.SerializationError:
                continue

    async with database.transaction("default", reach=EVERYTHING) as conn:
        tombstone = await resources.delete(conn, "Patient", "p")
        creating = asyncio.create_task(create())
        await somebody_waits(database)
    created = await creating
    assert tombstone is not None
    assert created.status == "recreated"
    assert created.version > tombstone.version
