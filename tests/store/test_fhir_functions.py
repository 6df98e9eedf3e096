"""The FHIR functions of the database: instants, references, whose record it is."""

from datetime import UTC, datetime

import pytest

from bonfire.store.pool import Database

INSTANTS: list[tuple[str | None, datetime | None]] = [
    ("2024", datetime(2024, 1, 1, tzinfo=UTC)),
    ("2024-05", datetime(2024, 5, 1, tzinfo=UTC)),
    ("2024-02-29", datetime(2024, 2, 29, tzinfo=UTC)),
    ("2024-05-06T07:08:09Z", datetime(2024, 5, 6, 7, 8, 9, tzinfo=UTC)),
    ("2024-05-06T07:08Z", datetime(2024, 5, 6, 7, 8, tzinfo=UTC)),
    ("2024-05-06T07:08:09", datetime(2024, 5, 6, 7, 8, 9, tzinfo=UTC)),
    ("2024-05-06T07:08:09.5Z", datetime(2024, 5, 6, 7, 8, 9, 500000, tzinfo=UTC)),
    ("2024-05-06T23:59:59.999999999+00:00", datetime(2024, 5, 6, 23, 59, 59, 999999, tzinfo=UTC)),
    ("2024-05-06T07:08:09+02:30", datetime(2024, 5, 6, 4, 38, 9, tzinfo=UTC)),
    ("2024-12-31T20:00:00-05:00", datetime(2025, 1, 1, 1, tzinfo=UTC)),
    ("2016-12-31T23:59:60Z", datetime(2017, 1, 1, tzinfo=UTC)),
    ("0001-01-01", datetime(1, 1, 1, tzinfo=UTC)),
    ("9999-12-31T23:59:59Z", datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)),
    ("2023-02-29", None),
    ("2023-04-31", None),
    ("2023-13", None),
    ("0000", None),
    ("2023-1-1", None),
    ("2023-01-01T24:00:00Z", None),
    ("2023-01-01T10", None),
    (" 2023", None),
    ("2023\n", None),
    ("yesterday", None),
    ("", None),
    (None, None),
]

REFERENCES: list[tuple[str | None, str | None]] = [
    ("Patient/1", "1"),
    ("Patient/a-b.C9", "a-b.C9"),
    ("http://example.org/fhir/Patient/1", "1"),
    ("Patient/1/_history/2", "1"),
    ("https://example.org/Patient/1/_history/2", "1"),
    ("Practitioner/1", None),
    ("MyPatient/1", None),
    ("Patient/", None),
    ("Patient", None),
    ("Patient?identifier=1", None),
    ("Patient/1/name", None),
    ("#Patient/1#", None),
    ("urn:uuid:0c3151bd-1cbf-4d64-b04d-cd9187a4c6e0", None),
    ("", None),
    (None, None),
]

PATIENTS: list[tuple[str, str, str | None]] = [
    ("Patient", "{}", "self"),
    ("Observation", '{"subject": {"reference": "Patient/1"}}', "1"),
    ("Observation", '{"subject": {"reference": "Group/1"}}', None),
    ("Observation", '{"subject": {"reference": "urn:uuid:1"}, "performer": [{"reference": "Patient/2"}]}', None),
    ("Immunization", '{"patient": {"reference": "http://x/fhir/Patient/1/_history/3"}}', "1"),
    ("Coverage", '{"beneficiary": {"reference": "Patient/1"}, "subscriber": {"reference": "Patient/2"}}', "1"),
    ("Task", '{"for": {"reference": "Patient/1"}}', "1"),
    ("ResearchSubject", '{"individual": {"reference": "Patient/1"}}', "1"),
    ("EnrollmentRequest", '{"candidate": {"reference": "Patient/1"}}', "1"),
    ("AppointmentResponse", '{"actor": {"reference": "Patient/1"}}', "1"),
    ("SupplyRequest", '{"deliverTo": {"reference": "Patient/1"}}', "1"),
    ("Account", '{"subject": [{"reference": "Device/1"}, {"reference": "Patient/1"}]}', "1"),
    (
        "Appointment",
        '{"participant": [{"actor": {"reference": "Practitioner/9"}}, {"actor": {"reference": "Patient/1"}}]}',
        "1",
    ),
    ("Appointment", "{}", None),
    ("Contract", '{"subject": [{"reference": "Patient/1"}]}', None),
    ("Organization", '{"name": "x"}', None),
    ("Observation", '{"subject": "Patient/1"}', None),
]


@pytest.mark.parametrize("timezone", ["UTC", "America/St_Johns"])
async def test_instant(database: Database, timezone: str) -> None:
    async with database.owner() as conn:
        await conn.execute(
            "select set_config('timezone', $1, false), set_config('datestyle', 'SQL, DMY', false)", timezone
        )
        for text, expected in INSTANTS:
            assert await conn.fetchval("select bonfire.instant($1)", text) == expected, text


async def test_instant_text_has_a_fixed_width_in_utc(database: Database) -> None:
    async with database.owner() as conn:
        await conn.execute("set timezone = 'Asia/Kathmandu'")
        text = await conn.fetchval("select bonfire.instant_text(bonfire.instant('2024-05-06T00:00:00.5+01:00'))")
    assert text == "2024-05-05T23:00:00.500000Z"


async def test_ref_id(database: Database) -> None:
    async with database.owner() as conn:
        for reference, expected in REFERENCES:
            assert await conn.fetchval("select bonfire.ref_id($1, 'Patient')", reference) == expected, reference


async def test_patient_of(database: Database) -> None:
    async with database.owner() as conn:
        for resource_type, resource, expected in PATIENTS:
            patient = await conn.fetchval("select bonfire.patient_of($1, 'self', $2)", resource_type, resource)
            assert patient == expected, (resource_type, resource)


async def test_the_helpers_of_read_models_are_immutable(database: Database) -> None:
    async with database.owner() as conn:
        rows = await conn.fetch(
            "select proname::text from pg_proc where pronamespace = 'bonfire'::regnamespace"
            " and provolatile = 'i' and proname in ('instant', 'ref_id', 'patient_of')"
        )
    assert sorted(row["proname"] for row in rows) == ["instant", "patient_of", "ref_id"]
