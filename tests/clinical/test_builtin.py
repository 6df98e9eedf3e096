"""The functions that bonfire comes with, together: what they write is what the lists show."""

import pytest

from bonfire.clinical.builtin import builtin_registry
from bonfire.clinical.describe import describe
from bonfire.clinical.queries import KeyedQuery
from bonfire.store.reach import EVERYTHING
from support.clinic import AMARA, BEN, SOUTH, Clinic


async def test_every_query_fits_the_database(clinic: Clinic) -> None:
    async with clinic.database.transaction("default", reach=EVERYTHING) as conn:
        await clinic.registry.prepare(conn)


def test_registries_are_independent() -> None:
    assert builtin_registry() is not builtin_registry()
    names = [function.name for function in describe(builtin_registry()).functions]
    assert names == sorted(set(names))


async def test_a_write_names_the_views_that_it_touched(clinic: Clinic) -> None:
    created = await clinic.outcome("patients.create", {"given": "Ada", "family": "Lovelace"}, id="p")
    assert created.views == ("patients",)
    patient = (await clinic.query("patients.list"))[0]["id"]
    for name, args, views in (
        ("notes.create", {"text": "x"}, ("notesByPatient", "timeline")),
        ("scores.record", {"code": "phq-9", "value": 3}, ("latestScores", "scoresByPatient", "timeline")),
        ("vitals.record", {"heartRate": 70}, ("timeline",)),
        ("encounters.start", {}, ("encountersByPatient", "timeline")),
        ("drafts.save", {"draftId": "d1", "text": "x"}, ("draftsByPatient",)),
    ):
        outcome = await clinic.outcome(name, {"patientId": patient, **args}, patient=patient)
        assert outcome.views == views, name
    promoted = await clinic.outcome("drafts.promote", {"draftId": "d1"}, patient=patient)
    assert promoted.views == ("draftsByPatient", "notesByPatient", "timeline")


@pytest.mark.parametrize(
    ("steps", "status"),
    [([], "draft"), (["sign"], "signed"), (["sign", "amend"], "amended"), (["enterInError"], "enteredInError")],
)
async def test_a_note_in_the_list_is_the_note(clinic: Clinic, steps: list[str], status: str) -> None:
    patient = await clinic.patient()
    encounter = (await clinic.mutate("encounters.start", {"patientId": patient}))["id"]
    args = {"patientId": patient, "text": "Seen.", "kind": "consult", "encounterId": encounter, "title": "T"}
    note = await clinic.mutate("notes.create", args)
    for step in steps:
        more = {"text": "Amended."} if step == "amend" else {}
        note = await clinic.mutate(f"notes.{step}", {"noteId": note["id"], **more}, by=BEN)
    rows = {row["id"]: row for row in await clinic.query("notes.listByPatient", {"patientId": patient})}
    row = rows[note["id"]]
    assert {name: row[name] for name in note} == note
    assert row["status"] == status
    if status == "amended":
        assert rows[note["replaces"]]["status"] == "superseded"


async def test_a_score_in_the_lists_is_the_score(clinic: Clinic) -> None:
    patient = await clinic.patient()
    first = await clinic.mutate("scores.record", {"patientId": patient, "code": "phq-9", "value": 12})
    second = await clinic.mutate("scores.record", {"patientId": patient, "code": "phq-9", "value": 7})
    other = await clinic.mutate("scores.record", {"patientId": patient, "code": "gad-7", "answers": [1] * 7})
    history = await clinic.query("scores.history", {"patientId": patient, "code": "phq-9"})
    assert [{name: row[name] for name in first} for row in history] == [second, first]
    latest = await clinic.query("scores.latest", {"patientId": patient})
    assert [(row["code"], row["value"], row["severity"]) for row in latest] == [
        ("gad-7", 7, "mild"),
        ("phq-9", 7, "mild"),
    ]
    assert [row["observationId"] for row in latest] == [other["id"], second["id"]]


async def test_an_encounter_in_the_list_is_the_encounter(clinic: Clinic) -> None:
    patient = await clinic.patient()
    begun = await clinic.mutate("encounters.start", {"patientId": patient, "kind": "home", "reason": "Fall"})
    (row,) = await clinic.query("encounters.listByPatient", {"patientId": patient})
    assert row == begun
    finished = await clinic.mutate("encounters.finish", {"encounterId": begun["id"]})
    assert await clinic.query("encounters.listByPatient", {"patientId": patient}) == [finished]


async def test_a_draft_in_the_list_is_its_authors_draft(clinic: Clinic) -> None:
    patient = await clinic.patient()
    first = await clinic.mutate("drafts.save", {"patientId": patient, "draftId": "d1", "text": "one"})
    second = await clinic.mutate("drafts.save", {"patientId": patient, "draftId": "d2", "text": "two", "title": "T"})
    await clinic.mutate("drafts.save", {"patientId": patient, "draftId": "d3", "text": "Ben's"}, by=BEN)
    rows = await clinic.query("drafts.listByPatient", {"patientId": patient})
    assert [{name: row[name] for name in first} for row in rows] == [first, second]
    assert [row["id"] for row in await clinic.query("drafts.listByPatient", {"patientId": patient}, by=BEN)] == ["d3"]
    query = clinic.registry.find_query("drafts.listByPatient")
    assert isinstance(query, KeyedQuery)
    args = b'{"patientId":"p"}'
    assert query.resolve(args, AMARA).canonical != query.resolve(args, BEN).canonical


async def test_patients_are_found_by_words_of_their_name_and_number(clinic: Clinic) -> None:
    for given, family, number in (
        ("Ada", "Lovelace", "100213"),
        ("Adaeze", "Okonjo", "100250"),
        ("100%", "Person_A", None),
    ):
        args = {"given": given, "family": family} | ({"identifier": number} if number else {})
        await clinic.mutate("patients.create", args)

    async def found(text: str) -> list[str]:
        return [row["family"] for row in await clinic.query("patients.search", {"text": text})]

    listed = await clinic.query("patients.list")
    assert await clinic.query("patients.search", {"text": "lovelace"}) == listed[:1]
    assert await found("ada") == ["Lovelace", "Okonjo"]
    assert await found("  oko ADA ") == ["Okonjo"]
    assert await found("1002") == ["Lovelace", "Okonjo"]
    assert await found("%") == ["Person_A"]
    assert await found("n_a") == ["Person_A"]
    assert await found("zeb") == []
    assert await clinic.query("patients.search", {"text": "ada"}, by=SOUTH) == []


async def test_the_timeline_shows_what_was_written(clinic: Clinic) -> None:
    patient = await clinic.patient()
    await clinic.mutate("notes.create", {"patientId": patient, "text": "x"})
    await clinic.mutate("scores.record", {"patientId": patient, "code": "gad-7", "value": 4})
    await clinic.mutate("medications.prescribe", {"patientId": patient, "name": "Melatonin", "dose": "At bedtime"})
    rows = await clinic.query("timeline.list", {"patientId": patient})
    assert [(row["kind"], row["title"]) for row in rows] == [
        ("medication", "Melatonin"),
        ("score", "GAD-7"),
        ("note", "Progress note"),
    ]
