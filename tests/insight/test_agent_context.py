from collections.abc import Sequence
from decimal import Decimal

import pytest

from bonfire.insight.agent_context import AgentContext, AgentContextIndex, read_agent_context
from bonfire.store import resources
from bonfire.store.pool import Database
from bonfire.store.reach import EVERYTHING, Clause, Reach
from bonfire_protocol.values import Json
from support.records import note, of, write


async def rebuilt(database: Database, patient: str = "p1", tenant: str = "default") -> AgentContext | None:
    """The context after the lane has come to it."""
    done = await AgentContextIndex().prepare(database, tenant, patient)
    async with database.transaction(tenant, reach=EVERYTHING) as conn:
        await done(conn)
        return await read_agent_context(conn, patient)


async def context(database: Database) -> AgentContext:
    found = await rebuilt(database)
    assert found is not None
    return found


def names(parts: Sequence[object]) -> list[str]:
    return [part.origin.id for part in parts]  # type: ignore[attr-defined]  # every part of a document has one


def problem(clinical: str | None = "active", **more: object) -> Json:
    status = {"clinicalStatus": {"coding": [{"code": clinical}]}} if clinical else {}
    return {"subject": of("p1"), "code": {"text": "Asthma"}, **status, **more}


def survey(value: int, at: str, code: str = "44261-6", **more: object) -> Json:
    return {
        "status": "final",
        "subject": of("p1"),
        "category": [{"coding": [{"code": "survey"}]}],
        "code": {"coding": [{"code": code, "display": "PHQ-9"}]},
        "effectiveDateTime": at,
        "valueInteger": value,
        **more,
    }


@pytest.fixture
async def ada(database: Database) -> Database:
    async with database.transaction("default", reach=EVERYTHING) as conn:
        await write(conn, "Patient", "p1", {"name": [{"text": "Ada Lovelace"}]})
    return database


async def test_it_holds_what_is_so_with_its_sources(ada: Database) -> None:
    async with ada.transaction("default", reach=EVERYTHING) as conn:
        await write(conn, "Condition", "c1", problem())
        medication = {"status": "active", "subject": of("p1"), "medicationCodeableConcept": {"text": "Salbutamol"}}
        await write(conn, "MedicationRequest", "m1", medication)
        statement = {
            "status": "active",
            "subject": of("p1"),
            "medicationReference": {"reference": "Medication/aspirin"},
        }
        await write(conn, "MedicationStatement", "s1", statement)
        await write(conn, "Medication", "aspirin", {"code": {"text": "Aspirin"}})
        await write(conn, "AllergyIntolerance", "a1", {"patient": of("p1"), "code": {"text": "Penicillin"}})
        await write(conn, "Observation", "o1", survey(9, "2024-01-01"))
        encounter = {"status": "finished", "class": {"code": "AMB"}, "subject": of("p1")}
        await write(conn, "Encounter", "e1", encounter)
        version = await write(conn, "DocumentReference", "n1", note("p1", "Feels well."))
    found = await context(ada)
    document = found.document
    assert document.patient.name == "Ada Lovelace"
    assert [one.text for one in document.problems] == ["Asthma"]
    assert sorted(one.text for one in document.medications) == ["Aspirin", "Salbutamol"]
    assert [one.text for one in document.allergies] == ["Penicillin"]
    assert [one.latest.value for one in document.scores] == [Decimal(9)]
    assert names(document.encounters) == ["e1"]
    assert [(one.text, one.origin.version) for one in document.notes] == [("Feels well.", str(version.version))]
    assert found.version == 1
    assert found.txid >= version.version


async def test_what_does_not_hold_is_not_in_it(ada: Database) -> None:
    unwanted: list[tuple[str, Json]] = [
        ("Condition", problem("resolved")),
        ("Condition", problem(verificationStatus={"coding": [{"code": "entered-in-error"}]})),
        ("Condition", problem(subject=of("p2"))),
        ("MedicationRequest", {"status": "stopped", "subject": of("p1")}),
        ("MedicationStatement", {"status": "completed", "subject": of("p1")}),
        ("AllergyIntolerance", {"patient": of("p1"), "verificationStatus": {"coding": [{"code": "refuted"}]}}),
        ("Observation", survey(1, "2024", category=[{"coding": [{"code": "vital-signs"}]}])),
        ("Observation", survey(1, "2024", status="entered-in-error")),
        ("Encounter", {"status": "cancelled", "subject": of("p1")}),
        ("DocumentReference", note("p1", "Wrong.", status="entered-in-error")),
        ("DocumentReference", note("p1", "Old.", status="superseded")),
    ]
    async with ada.transaction("default", reach=EVERYTHING) as conn:
        for number, (resource_type, resource) in enumerate(unwanted):
            await write(conn, resource_type, f"x{number}", resource)
    document = (await context(ada)).document
    assert [document.problems, document.medications, document.allergies, document.scores] == [[], [], [], []]
    assert [document.encounters, document.notes, document.omitted] == [[], [], {}]


async def test_a_condition_without_a_status_is_a_problem(ada: Database) -> None:
    async with ada.transaction("default", reach=EVERYTHING) as conn:
        await write(conn, "Condition", "c1", problem(None))
    assert names((await context(ada)).document.problems) == ["c1"]


async def test_scores_are_the_last_two_of_each_kind_the_newest_kind_first(ada: Database) -> None:
    async with ada.transaction("default", reach=EVERYTHING) as conn:
        await write(conn, "Observation", "o1", survey(1, "2024-01-01"))
        await write(conn, "Observation", "o3", survey(3, "2024-03-01T10:00:00+02:00"))
        await write(conn, "Observation", "o2", survey(2, "2024-02"))
        await write(conn, "Observation", "g1", survey(7, "2024-04-01", "70274-6"))
    gad, phq = (await context(ada)).document.scores
    assert (gad.code, gad.latest.value, gad.previous) == ("70274-6", Decimal(7), None)
    assert phq.previous is not None
    assert (phq.latest.origin.id, phq.previous.origin.id) == ("o3", "o2")


async def test_only_the_last_notes_and_encounters_are_in_it_and_the_rest_is_counted(ada: Database) -> None:
    async with ada.transaction("default", reach=EVERYTHING) as conn:
        for day in range(1, 8):
            await write(conn, "DocumentReference", f"n{day}", note("p1", "Text.", date=f"2024-01-0{day}T00:00:00Z"))
            period = {"start": f"2024-01-0{day}"}
            await write(conn, "Encounter", f"e{day}", {"status": "finished", "subject": of("p1"), "period": period})
    document = (await context(ada)).document
    assert names(document.notes) == ["n7", "n6", "n5", "n4", "n3"]
    assert names(document.encounters) == ["e7", "e6", "e5", "e4", "e3"]
    assert document.omitted == {"encounters": 2, "notes": 2}


async def test_its_version_counts_changes_not_rebuilds(ada: Database) -> None:
    first = await context(ada)
    again = await context(ada)
    assert (first.version, again.version) == (1, 1)
    async with ada.transaction("default", reach=EVERYTHING) as conn:
        await write(conn, "Condition", "c1", problem())
    changed = await context(ada)
    assert changed.version == 2
    assert changed.txid > first.txid


async def test_it_says_which_transactions_are_in_it(ada: Database) -> None:
    async with ada.transaction("default", reach=EVERYTHING) as writer:
        xid = int(await writer.fetchval("select pg_current_xact_id()::text"))
        await write(writer, "Condition", "c1", problem())
        before = await context(ada)
    after = await context(ada)
    assert before.complete_to <= xid < after.complete_to
    assert (before.document.problems, names(after.document.problems)) == ([], ["c1"])


async def test_it_goes_with_its_patient(ada: Database) -> None:
    await context(ada)
    async with ada.transaction("default", reach=EVERYTHING) as conn:
        await resources.delete(conn, "Patient", "p1")
    assert await rebuilt(ada) is None


async def test_tenants_are_apart(ada: Database) -> None:
    await context(ada)
    async with ada.transaction("other", reach=EVERYTHING) as conn:
        assert await read_agent_context(conn, "p1") is None
        await write(conn, "Condition", "c1", problem())
    assert (await context(ada)).document.problems == []
    assert await rebuilt(ada, tenant="other") is None


async def test_a_sweep_visits_patients_that_are_there_and_those_that_were(ada: Database) -> None:
    await context(ada)
    async with ada.transaction("default", reach=EVERYTHING) as conn:
        await resources.delete(conn, "Patient", "p1")
        await write(conn, "Patient", "p2", {})
        assert sorted(await AgentContextIndex().patients(conn)) == ["p1", "p2"]


async def test_it_is_made_from_every_type_that_the_chart_reads(ada: Database) -> None:
    async with ada.owner() as conn:
        rows = await conn.fetch(
            """select distinct c.relname from pg_depend d join pg_class c on c.oid = d.refobjid
               where d.refclassid = 'pg_class'::regclass and d.classid = 'pg_proc'::regclass
                 and d.objid in ('bonfire.chart'::regproc, 'bonfire.patient_documents'::regproc)"""
        )
    sources = {resource_type.lower() for resource_type in AgentContextIndex.sources}
    # A Medication is nobody's: a change of its name shows when its patient's context is made next.
    assert {row["relname"] for row in rows} == sources | {"medication"}


async def test_a_draft_is_not_in_it(ada: Database) -> None:
    async with ada.transaction("default", reach=EVERYTHING) as conn:
        await write(conn, "DocumentReference", "n1", note("p1", "Signed."))
        await write(conn, "DocumentReference", "n2", note("p1", "Not yet.", docStatus="preliminary"))
    document = (await context(ada)).document
    assert names(document.notes) == ["n1"]
    assert document.omitted == {}


async def test_it_is_seen_by_whoever_may_see_all_that_it_was_made_from(ada: Database) -> None:
    unrestricted = Reach.of([Clause(without=frozenset(["label:R"]))])

    async def seen(reach: Reach) -> bool:
        async with ada.transaction("default", reach=reach) as conn:
            return await read_agent_context(conn, "p1") is not None

    await context(ada)
    assert await seen(unrestricted)
    assert await seen(EVERYTHING.about("p1"))
    assert not await seen(EVERYTHING.about("p2"))
    assert not await seen(Reach.of([Clause(frozenset([frozenset(["type:Patient"])]))]))
    async with ada.transaction("default", reach=EVERYTHING) as conn:
        await write(conn, "Condition", "c1", problem(meta={"security": [{"code": "R"}]}))
    assert names((await context(ada)).document.problems) == ["c1"]
    assert not await seen(unrestricted)
    async with ada.transaction("default", reach=EVERYTHING) as conn:
        await write(conn, "Condition", "c1", problem())
    await context(ada)
    assert await seen(unrestricted)
