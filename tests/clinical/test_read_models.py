"""Our read models: what the screens list, from any record that there may be."""

import base64
import copy
import json
import os
import re
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bonfire.clinical.notes import note_status
from bonfire.clinical.read_models import (
    READ_MODELS,
    drafts_by_patient,
    latest_scores,
    notes_by_patient,
    patients_model,
    scores_by_patient,
    timeline,
)
from bonfire.store.model import ReadModel
from bonfire.store.pool import Database
from bonfire.store.reach import EVERYTHING
from bonfire.store.readmodels import check, select_rows_sql
from bonfire_protocol.values import Json
from support.clinic import AMARA, Clinic
from support.records import note, of

DATA = Path(os.environ.get("BONFIRE_TEST_DATA", Path(__file__).parents[3] / "shared" / "data"))


@pytest.fixture
async def conn(clinic_url: str) -> AsyncIterator[asyncpg.Connection]:
    """An owner's connection to a database with our read models."""
    conn = await asyncpg.connect(clinic_url)
    await conn.execute("set bonfire.tenant = 'north'")
    yield conn
    await conn.close()


async def store(conn: asyncpg.Connection, resource_type: str, id: str, resource: Json) -> None:
    await conn.execute(
        f'insert into public."{resource_type.lower()}" (id, resource) values ($1, $2)', id, json.dumps(resource)
    )


async def rows(conn: asyncpg.Connection, model: ReadModel, *key: str) -> list[Json]:
    """A model's list."""
    return [json.loads(row["row"]) for row in await conn.fetch(select_rows_sql(model), "\x1f".join(key), 1000)]


# ---- notes ------------------------------------------------------------------------------------------------------


async def listed(clinic: Clinic, model: ReadModel, *key: str) -> list[Json]:
    async with clinic.database.transaction(AMARA.tenant, reach=EVERYTHING) as conn:
        return await rows(conn, model, *key)


async def test_a_note_is_listed_as_it_is_answered(clinic: Clinic) -> None:
    patient = await clinic.patient()
    encounter = (await clinic.mutate("encounters.start", {"patientId": patient}))["id"]
    first = await clinic.mutate(
        "notes.create",
        {"patientId": patient, "text": "Ünïcode\n" * 3000, "kind": "telephone", "encounterId": encounter},
    )
    signed = await clinic.mutate("notes.sign", {"noteId": first["id"]})
    amended = await clinic.mutate("notes.amend", {"noteId": first["id"], "text": "Other words.", "title": "Better"})
    found = await listed(clinic, notes_by_patient, patient)
    assert [row["id"] for row in found] == [amended["id"], first["id"]], "the newest first"
    for row, answered in zip(found, [amended, signed], strict=True):
        same = set(answered) - {"version", "status", "kind"}
        assert {name: row[name] for name in same} == {name: answered[name] for name in same}
        assert row["kind"] == "telephone"
    assert [row["status"] for row in found] == ["amended", "superseded"]
    assert found[0]["version"] == amended["version"]
    assert (found[0]["code"], found[0]["display"]) == ("34748-4", "Telephone encounter note")


@pytest.mark.parametrize("status", ["current", "superseded", "entered-in-error"])
@pytest.mark.parametrize("doc_status", ["preliminary", "final", "amended", "entered-in-error", None])
async def test_a_note_has_the_status_that_the_functions_see(
    conn: asyncpg.Connection, status: str, doc_status: str | None
) -> None:
    resource = note("p", "words", status=status, docStatus=doc_status)
    await store(conn, "DocumentReference", "n", resource)
    (row,) = await rows(conn, notes_by_patient, "p")
    assert row["status"] == note_status(resource)
    events = await rows(conn, timeline, "p")
    in_error = row["status"] == "enteredInError"
    assert [event["status"] for event in events] == ([] if in_error else [row["status"]])


def packed(data: bytes) -> str:
    return base64.b64encode(data).decode()


@pytest.mark.parametrize(
    ("attachment", "text"),
    [
        ({"contentType": "text/plain", "data": packed("Grüße".encode())}, "Grüße"),
        ({"contentType": "text/plain;charset=utf-8", "data": "SGVs\n bG8="}, "Hello"),
        ({"contentType": "text/plain", "data": "not base64!"}, ""),
        ({"contentType": "text/plain", "data": "SGVsbG8"}, ""),
        ({"contentType": "text/plain", "data": packed(b"\xff\xfe")}, ""),
        ({"contentType": "text/plain", "data": packed(b"a\0b")}, ""),
        ({"contentType": "text/plain", "data": ["SGVsbG8="]}, ""),
        ({"contentType": "text/plain", "data": ""}, ""),
        ({"contentType": "text/plain"}, ""),
        ({"contentType": "text/plain", "data": packed(("x" * 199_999 + "ü" * 3).encode())}, "x" * 199_999 + "ü"),
        ({"contentType": "text/plain", "data": packed(("€" * 300_000).encode())}, "€" * 200_000),
        ({"contentType": "text/plain", "data": packed(("\U0001f600" * 200_001).encode())}, "\U0001f600" * 200_000),
    ],
)  # fmt: skip
async def test_the_text_of_a_note(conn: asyncpg.Connection, attachment: Json, text: str) -> None:
    await store(conn, "DocumentReference", "n", note("p", "", content=[{"attachment": attachment}]))
    (row,) = await rows(conn, notes_by_patient, "p")
    assert row["text"] == text


async def test_a_document_without_words_or_signature_is_a_file(conn: asyncpg.Connection) -> None:
    scan = {"attachment": {"contentType": "application/pdf", "title": "Referral.pdf"}}
    plain = {"attachment": {"contentType": "text/plain", "data": packed(b"Hello")}}
    category = [{"coding": [{"code": "clinical-note"}]}]
    document = {"status": "current", "subject": of("p"), "date": "2024-05-06T00:00:00Z"}
    await store(conn, "DocumentReference", "scan", {**document, "content": [scan]})
    await store(conn, "DocumentReference", "words", {**document, "content": [scan, plain]})
    await store(conn, "DocumentReference", "category", {**document, "content": [scan], "category": category})
    await store(conn, "DocumentReference", "signed", {**document, "content": [scan], "docStatus": "final"})
    assert {row["id"]: row["text"] for row in await rows(conn, notes_by_patient, "p")} == {
        "words": "Hello",
        "category": "",
        "signed": "",
    }
    events = {event["resourceId"]: event for event in await rows(conn, timeline, "p")}
    assert {id: event["kind"] for id, event in events.items()} == {
        "scan": "file",
        "words": "note",
        "category": "note",
        "signed": "note",
    }
    assert (events["scan"]["title"], events["scan"]["detail"]) == ("Referral.pdf", "application/pdf")


# ---- scores -----------------------------------------------------------------------------------------------------


async def test_scores_as_they_are_recorded(clinic: Clinic) -> None:
    patient = await clinic.patient()
    early = await clinic.mutate(
        "scores.record", {"patientId": patient, "code": "phq-9", "value": 18, "at": "2026-01-05T10:00:00Z"}
    )
    late = await clinic.mutate("scores.record", {"patientId": patient, "code": "phq-9", "answers": [1] * 9})
    other = await clinic.mutate(
        "scores.record", {"patientId": patient, "code": "72514-3", "value": 4.5, "name": "Pain severity"}
    )
    history = await listed(clinic, scores_by_patient, patient, "phq-9")
    assert [(row["id"], row["value"], row["severity"]) for row in history] == [
        (late["id"], 9, "mild"),
        (early["id"], 18, "moderately severe"),
    ]
    latest = await listed(clinic, latest_scores, patient)
    assert [(row["code"], row["observationId"]) for row in latest] == [("72514-3", other["id"]), ("phq-9", late["id"])]
    for row, answered in zip(latest, [other, late], strict=True):
        same = set(answered) & set(row) - {"id"}
        assert {"code", "name", "value", "severity", "at", "version", "encounterId", "patientId"} <= same
        assert {name: row[name] for name in same} == {name: answered[name] for name in same}


def score(value: Json, **more: object) -> Json:
    return {
        "status": "final",
        "category": [{"coding": [{"code": "survey"}]}],
        "code": {"coding": [{"system": "http://loinc.org", "code": "44261-6"}], "text": "PHQ-9"},
        "subject": of("p"),
        "effectiveDateTime": "2024-05-06",
        **value,
        **more,
    }


@pytest.mark.parametrize(
    ("resource", "value"),
    [
        (score({"valueQuantity": {"value": 9}}), 9),
        (score({"valueInteger": 9}), 9),
        (score({"valueInteger": 9}, category=[]), 9),
        (score({"valueInteger": 9}, category=[], code={"coding": [{"code": "2345-7"}]}), None),
        (score({"valueString": "9"}), None),
        (score({"valueQuantity": {"value": "9"}}), None),
        (score({"valueInteger": 9}, status="entered-in-error"), None),
        (score({"valueInteger": 9}, status="cancelled"), None),
        (score({"valueInteger": 9}, code={"text": "no code"}), None),
    ],
)
async def test_what_counts_as_a_score(conn: asyncpg.Connection, resource: Json, value: int | None) -> None:
    await store(conn, "Observation", "o", resource)
    found = await rows(conn, latest_scores, "p")
    assert [row["value"] for row in found] == ([] if value is None else [value])
    assert [row["id"] for row in found] == ([] if value is None else ["p/phq-9"])


async def test_correcting_an_older_score_of_the_same_time_does_not_make_it_the_latest(
    conn: asyncpg.Connection,
) -> None:
    await store(conn, "Observation", "first", score({"valueInteger": 5}))
    await store(conn, "Observation", "second", score({"valueInteger": 6}))
    await conn.execute("update observation set resource = resource || '{\"valueInteger\": 7}' where id = 'first'")
    (row,) = await rows(conn, latest_scores, "p")
    assert (row["observationId"], row["value"]) == ("second", 6)


# ---- the timeline -----------------------------------------------------------------------------------------------

CODE = {"coding": [{"system": "s", "code": "c", "display": "Named"}]}
EVENTS: list[tuple[str, Json, tuple[str, str | None, str | None, str | None]]] = [
    (
        "Encounter",
        {"status": "finished", "class": {"code": "AMB", "display": "ambulatory"}, "subject": of("p"),
         "period": {"start": "2024-05-06"}, "reasonCode": [{"text": "cough"}]},
        ("encounter", "ambulatory", "cough", "finished"),
    ),
    (
        "Observation",
        {"status": "final", "code": CODE, "subject": of("p"), "effectiveDateTime": "2024-05-06",
         "valueQuantity": {"value": 72.50, "unit": "kg"}},
        ("observation", "Named", "72.5 kg", "final"),
    ),
    (
        "Observation",
        {"status": "final", "code": CODE, "subject": of("p"), "effectivePeriod": {"start": "2024-05-06"}, "component": [
            {"code": {"coding": [{"code": "8462-4"}]}, "valueQuantity": {"value": 80, "unit": "mmHg"}},
            {"code": {"coding": [{"code": "8480-6"}]}, "valueQuantity": {"value": 120, "unit": "mmHg"}}]},
        ("observation", "Named", "120/80 mmHg", "final"),
    ),
    (
        "Observation",
        {"status": "final", "code": CODE, "subject": of("p"), "effectiveInstant": "2024-05-06T00:00:00Z", "component": [
            {"code": {"text": "One"}, "valueQuantity": {"value": 1, "code": "mg"}},
            {"code": {"text": "Two"}, "valueCodeableConcept": {"text": "high"}}]},
        ("observation", "Named", "One 1 mg, Two high", "final"),
    ),
    (
        "Observation",
        {"status": "final", "code": CODE, "subject": of("p"), "issued": "2024-05-06T00:00:00Z",
         "valueCodeableConcept": CODE},
        ("observation", "Named", "Named", "final"),
    ),
    ("Observation", score({"valueInteger": 12}), ("score", "PHQ-9", "12", "final")),
    (
        "DiagnosticReport",
        {"status": "final", "code": CODE, "subject": of("p"), "effectiveDateTime": "2024-05-06", "conclusion": "fine"},
        ("report", "Named", "fine", "final"),
    ),
    (
        "Condition",
        {"clinicalStatus": {"coding": [{"code": "active", "display": "Active"}]}, "code": {"text": "Asthma"},
         "subject": of("p"), "onsetDateTime": "2024-05-06"},
        ("condition", "Asthma", "Active", "active"),
    ),
    (
        "AllergyIntolerance",
        {"clinicalStatus": {"coding": [{"code": "active"}]}, "code": {"text": "Nuts"}, "patient": of("p"),
         "recordedDate": "2024-05-06", "reaction": [{"manifestation": [{"text": "Hives"}]}]},
        ("allergy", "Nuts", "Hives", "active"),
    ),
    (
        "MedicationRequest",
        {"status": "active", "medicationCodeableConcept": CODE, "subject": of("p"), "authoredOn": "2024-05-06",
         "dosageInstruction": [{"text": "1 daily"}]},
        ("medication", "Named", "1 daily", "active"),
    ),
    (
        "MedicationStatement",
        {"status": "active", "medicationReference": {"display": "Aspirin"}, "subject": of("p"),
         "dateAsserted": "2024-05-06", "dosage": [{"text": "1 daily"}]},
        ("medication", "Aspirin", "1 daily", "active"),
    ),
    (
        "MedicationAdministration",
        {"status": "completed", "medicationCodeableConcept": CODE, "subject": of("p"),
         "effectiveDateTime": "2024-05-06", "dosage": {"text": "1 ml"}},
        ("medication", "Named", "1 ml", "completed"),
    ),
    (
        "Procedure",
        {"status": "completed", "code": CODE, "subject": of("p"), "performedPeriod": {"start": "2024-05-06"},
         "reasonReference": [{"display": "pain"}]},
        ("procedure", "Named", "pain", "completed"),
    ),
    (
        "Immunization",
        {"status": "completed", "vaccineCode": CODE, "patient": of("p"), "occurrenceDateTime": "2024-05-06"},
        ("immunization", "Named", None, "completed"),
    ),
    (
        "Media",
        {"status": "completed", "subject": of("p"), "createdDateTime": "2024-05-06",
         "content": {"contentType": "image/png", "title": "Wound"}},
        ("file", "Wound", "image/png", "completed"),
    ),
]  # fmt: skip


@pytest.mark.parametrize(("resource_type", "resource", "shown"), EVENTS)
async def test_events_of_the_timeline(
    conn: asyncpg.Connection, resource_type: str, resource: Json, shown: tuple[str | None, ...]
) -> None:
    await store(conn, resource_type, "x", resource)
    (event,) = await rows(conn, timeline, "p")
    assert event == {
        "id": f"{resource_type}/x",
        "patientId": "p",
        "at": "2024-05-06T00:00:00.000000Z",
        **dict(zip(("kind", "title", "detail", "status"), shown, strict=True)),
        "resourceType": resource_type,
        "resourceId": "x",
        "encounterId": "x" if resource_type == "Encounter" else None,
    }


@pytest.mark.parametrize(("resource_type", "resource", "shown"), EVENTS)
async def test_what_was_entered_in_error_did_not_happen(
    conn: asyncpg.Connection, resource_type: str, resource: Json, shown: tuple[str | None, ...]
) -> None:
    del shown
    in_error: Json = (
        {"verificationStatus": {"coding": [{"code": "entered-in-error"}]}}
        if resource_type in ("Condition", "AllergyIntolerance")
        else {"status": "entered-in-error"}
    )
    await store(conn, resource_type, "x", {**resource, **in_error})
    assert await rows(conn, timeline, "p") == []


async def test_the_timeline_is_in_order_and_what_has_no_date_comes_last(conn: asyncpg.Connection) -> None:
    for id, at in [("a", "2024"), ("b", None), ("c", "2024-05-06T10:00:00+02:00"), ("d", "2024-05-06T09:00:00Z")]:
        await store(conn, "Procedure", id, {"status": "completed", "subject": of("p"), "performedDateTime": at})
    assert [event["resourceId"] for event in await rows(conn, timeline, "p")] == ["d", "c", "a", "b"]


# ---- people and drafts ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("resource", "shown"),
    [
        (
            {"name": [{"use": "nickname", "given": ["Al"]}, {"use": "official", "family": "Roe", "given": ["A", "B"]}]},
            {"name": "A B Roe", "family": "Roe", "given": "A B"},
        ),
        ({"name": [{"text": "Dr. Roe", "family": "Roe"}]}, {"name": "Dr. Roe", "family": "Roe", "given": None}),
        ({"name": {"family": "Roe", "given": "A"}}, {"name": "A Roe", "family": "Roe", "given": "A"}),
        ({}, {"name": "(no name)", "family": None, "given": None, "active": True, "deceased": False}),
        ({"deceasedDateTime": "2020", "active": False}, {"deceased": True, "active": False}),
        ({"deceasedBoolean": False, "birthDate": "1980-05"}, {"deceased": False, "birthDate": "1980-05"}),
        ({"birthDate": "in May", "gender": "other"}, {"birthDate": None, "gender": "other"}),
        (
            {"identifier": [{"value": "1"}, {"type": {"coding": [{"code": "MR"}]}, "value": "2"}]},
            {"identifier": "2"},
        ),
        ({"identifier": [{"system": "urn:bonfire:mrn", "value": "3"}]}, {"identifier": "3"}),
    ],
)
async def test_people(conn: asyncpg.Connection, resource: Json, shown: Json) -> None:
    await store(conn, "Patient", "p", resource)
    (row,) = await rows(conn, patients_model)
    assert {name: row[name] for name in shown} == shown


async def test_people_are_in_the_order_of_their_names(conn: asyncpg.Connection) -> None:
    for id, family, given_name in [("1", "Roe", "B"), ("2", "Roe", "A"), ("3", "Åberg", "A"), ("4", "Abel", "Z")]:
        await store(conn, "Patient", id, {"name": [{"family": family, "given": [given_name]}]})
    await store(conn, "Patient", "0", {})
    assert [row["id"] for row in await rows(conn, patients_model)] == ["4", "2", "1", "3", "0"]


async def test_drafts_are_the_writers_own(clinic: Clinic) -> None:
    patient = await clinic.patient()
    saved = await clinic.mutate("drafts.save", {"patientId": patient, "draftId": "d", "text": "First wor"})
    (row,) = await listed(clinic, drafts_by_patient, AMARA.user, patient)
    assert {name: row[name] for name in saved} == saved
    assert await listed(clinic, drafts_by_patient, "ben", patient) == []
    await clinic.mutate("drafts.promote", {"draftId": "d"})
    assert await listed(clinic, drafts_by_patient, AMARA.user, patient) == []


# ---- any record -------------------------------------------------------------------------------------------------

SAMPLES: list[tuple[str, Json]] = [
    *((resource_type, resource) for resource_type, resource, _ in EVENTS),
    (
        "DocumentReference",
        note(
            "p",
            "words",
            type=CODE,
            category=[CODE],
            author=[{"display": "A"}],
            authenticator={"display": "B"},
            relatesTo=[{"code": "replaces", "target": {"reference": "DocumentReference/0"}}],
            context={"encounter": [{"reference": "Encounter/e"}]},
        ),
    ),
    (
        "Patient",
        {
            "name": [{"use": "official", "text": "A Roe", "family": "Roe", "given": ["A"]}],
            "identifier": [{"type": CODE, "system": "s", "value": "1"}],
            "birthDate": "1980",
            "gender": "male",
            "active": True,
            "deceasedBoolean": False,
        },
    ),
]

junk = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.sampled_from(
        ["", "NaN", "not base64!", "2024-02-30", "text/plain", "Patient/", "44261-6", "survey", "\U0001f600", "€" * 400]
    )
    | st.text(st.characters(exclude_characters="\0", codec="utf-8"), max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["coding", "code", "value", "text", "reference", "0"]), inner, max_size=3)
    ),
    max_leaves=6,
)


def places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Every (container, key) inside of a JSON value."""
    if isinstance(value, dict | list):
        for key in list(value) if isinstance(value, dict) else range(len(value)):
            yield value, key
            yield from places(value[key])


@st.composite
def spoiled(draw: st.DrawFn) -> tuple[str, Json]:
    """A resource with one to three of its values replaced by what should not be there."""
    resource_type, sample = draw(st.sampled_from(SAMPLES))
    resource = copy.deepcopy(sample)
    for _ in range(draw(st.integers(1, 3))):
        container, key = draw(st.sampled_from(list(places(resource))))
        container[key] = draw(junk)
    return resource_type, resource


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(resources=st.lists(spoiled(), min_size=1, max_size=12))
async def test_no_record_stops_a_write(clinic_url: str, resources: list[tuple[str, Json]]) -> None:
    conn = await asyncpg.connect(clinic_url)
    try:
        for number, (resource_type, resource) in enumerate(resources):
            id = f"x{number}"
            await conn.execute(
                f'insert into "{resource_type.lower()}" as r (id, resource) values ($1, $2) '
                "on conflict (tenant, id) do update set resource = excluded.resource",
                id,
                json.dumps(resource),
            )
        assert await check(conn, READ_MODELS) == []
    finally:
        await conn.close()


def synthea() -> Iterator[tuple[str, str, Json]]:
    """(type, id, resource) of the sample patients, with references within a Bundle resolved."""
    for path in sorted(DATA.glob("synthea*/*.json")):
        text = path.read_text(encoding="utf-8")
        ids = {entry["fullUrl"]: entry["resource"] for entry in json.loads(text)["entry"]}
        named = {url: f"{found['resourceType']}/{found.get('id', url[9:])}" for url, found in ids.items()}
        text = re.sub(r"urn:uuid:[0-9a-f-]+", lambda match, named=named: named.get(match[0], match[0]), text)  # type: ignore[misc]  # bound early on purpose
        for entry in json.loads(text)["entry"]:
            resource = entry["resource"]
            yield resource["resourceType"], resource.get("id", entry["fullUrl"].rpartition("/")[2]), resource


async def test_synthetic_patients(database: Database, conn: asyncpg.Connection) -> None:
    by_type: dict[str, dict[str, str]] = {}
    for resource_type, id, resource in synthea():
        by_type.setdefault(resource_type, {})[id] = json.dumps(resource)
    if not by_type:
        pytest.skip("no Synthea data: BONFIRE_TEST_DATA names no folder that holds it")
    for resource_type, resources in by_type.items():
        await conn.execute(
            f'insert into "{resource_type.lower()}" (id, resource) '
            "select id, resource::jsonb from unnest($1::text[], $2::text[]) r (id, resource)",
            list(resources),
            list(resources.values()),
        )
    assert await check(conn, READ_MODELS) == []
    people = await rows(conn, patients_model)
    assert len(people) == len(by_type["Patient"])
    assert all(person["family"] and person["given"] and person["birthDate"] for person in people)
    notes = [row for person in people for row in await rows(conn, notes_by_patient, person["id"])]
    assert len(notes) == len(by_type["DocumentReference"])
    assert all(row["text"] and row["date"] and row["title"] for row in notes)
    kinds: dict[str, int] = {}
    for person in people:
        for event in await conn.fetch("select * from read.timeline where patient_id = $1", person["id"]):
            assert event["title"]
            assert event["at"]
            kinds[event["kind"]] = kinds.get(event["kind"], 0) + 1
    assert kinds["observation"] + kinds["score"] == len(by_type["Observation"])
    for kind, resource_type in [
        ("encounter", "Encounter"),
        ("immunization", "Immunization"),
        ("note", "DocumentReference"),
    ]:
        assert kinds[kind] == len(by_type[resource_type])
    scored = "select patient_id, code from read.scores_by_patient group by 1, 2"
    assert await conn.fetchval(f"select count(*) from ({scored}) s") == await conn.fetchval(
        "select count(*) from read.latest_scores"
    )
