"""What a function can do in its transaction: read, write, ask in SQL."""

from decimal import Decimal

import asyncpg
import pytest

from bonfire.access.facts import Facts
from bonfire.clinical import MutationContext, QueryContext, Value
from bonfire.clinical.read_models import notes_by_patient, patients_model
from bonfire.clinical.stated import Stated
from bonfire.store.reach import EVERYTHING
from bonfire_protocol.faults import Fault, FaultCode
from support.clinic import AMARA, Clinic


class Counted(Value, frozen=True):
    resource_type: str
    how_many: int


def context(clinic: Clinic, conn: asyncpg.Connection) -> MutationContext:
    numbers = iter(range(1000))
    access = clinic.gatekeeper.gate.access(AMARA, Facts())
    return MutationContext(conn, access, clinic.now, new_id=lambda: f"new{next(numbers)}", stated=Stated())


async def test_a_resource_comes_back_with_its_id_and_version_and_its_numbers_as_written(clinic: Clinic) -> None:
    async with clinic.database.transaction("north", reach=EVERYTHING) as conn:
        ctx = context(clinic, conn)
        created = await ctx.create(
            {
                "resourceType": "Basic",
                "code": {"text": "x"},
                "extension": [{"url": "u", "valueDecimal": Decimal("1.50")}],
            }
        )
        assert created["id"] == "new0"
        read = await ctx.read("Basic", "new0")
        assert read == created
        assert str(created["extension"][0]["valueDecimal"]) == "1.50"
        updated = await ctx.update({**created, "code": {"text": "y"}})
        assert int(updated["meta"]["versionId"]) > int(created["meta"]["versionId"])
        await ctx.delete("Basic", "new0")
        assert await ctx.read("Basic", "new0") is None
        await ctx.delete("Basic", "new0")


async def test_an_update_finds_the_version_that_was_read(clinic: Clinic) -> None:
    async with clinic.database.transaction("north", reach=EVERYTHING) as conn:
        ctx = context(clinic, conn)
        first = await ctx.create({"resourceType": "Basic", "code": {"text": "x"}})
        await ctx.update(first)
        with pytest.raises(Fault) as refused:
            await ctx.update(first)
    assert refused.value.code is FaultCode.version_conflict


async def test_what_breaks_fhirs_structure_is_never_written(clinic: Clinic) -> None:
    async with clinic.database.transaction("north", reach=EVERYTHING) as conn:
        ctx = context(clinic, conn)
        created = await ctx.create({"resourceType": "Basic", "code": {"text": "x"}})
        for write in (ctx.create({"resourceType": "Basic"}), ctx.update({**created, "code": "SECRET"})):
            with pytest.raises(Fault) as refused:
                await write
            assert refused.value.code is FaultCode.bad_arguments
            assert refused.value.field == "Basic.code"
            assert "SECRET" not in f"{refused.value} {refused.value.expected} {refused.value.got}"
        assert await conn.fetchval("select count(*) from basic") == 1


async def test_rows_of_sql_are_structs(clinic: Clinic) -> None:
    await clinic.patient()
    async with clinic.database.transaction("north", reach=EVERYTHING) as conn:
        ctx = context(clinic, conn)
        sql = "select resource_type, count(*) as how_many from patient where id <> :id group by 1"
        assert await ctx.rows(Counted, sql, id="nobody") == [Counted("Patient", 1)]
        for parameters in ({}, {"id": "x", "name": "y"}, {"name": "y"}):
            with pytest.raises(TypeError, match="the SQL's parameters are id"):
                await ctx.rows(Counted, sql, **parameters)


async def test_a_query_reads_a_view_and_state_and_requires_what_must_be_there(clinic: Clinic) -> None:
    ada = await clinic.patient("Ada")
    await clinic.mutate("appState.put", {"collection": "ui", "id": "mine", "data": 1, "private": True})
    async with clinic.database.transaction("north", reach=EVERYTHING) as conn:
        shared = QueryContext(conn, AMARA, clinic.now, personal=False)
        assert (shared.tenant, shared.now) == ("north", clinic.now)
        assert await shared.state.list("ui") == []
        personal = QueryContext(conn, AMARA, clinic.now, personal=True)
        assert [document.id for document in await personal.state.list("ui")] == ["mine"]
        patient = (await shared.view(patients_model, limit=1))[0]
        assert (patient["id"], patient["given"]) == (ada, "Ada")
        await clinic.mutate("notes.create", {"patientId": ada, "text": "x"})
        (note,) = await shared.view(notes_by_patient, ada)
        assert note["text"] == "x"
        with pytest.raises(Fault) as refused:
            await shared.require("Patient", "nobody", field="patientId")
        assert (refused.value.code, refused.value.field) == (FaultCode.not_found, "patientId")
        with pytest.raises(Fault) as refused:
            await shared.read("Patients", "x")
        assert refused.value.code is FaultCode.unsupported
