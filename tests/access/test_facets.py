"""Facets: what the database will say of a record is what was said of it before it was written."""

import json
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from random import Random
from typing import Any

import asyncpg
import pytest

from bonfire.access.facets import app_state_facets, facets_of

DATA = Path(os.environ.get("BONFIRE_TEST_DATA", Path(__file__).parents[3] / "shared" / "data"))

Record = tuple[str, str, dict[str, Any]]

NOTE: dict[str, Any] = {
    "status": "current",
    "docStatus": "preliminary",
    "subject": {"reference": "Patient/p1"},
    "author": [{"identifier": {"system": "urn:bonfire:user", "value": "u1"}}, {"reference": "Practitioner/d7"}],
    "category": [{"coding": [{"code": "clinical-note"}]}],
    "meta": {"security": [{"code": "R"}, {"code": "PSY"}]},
}

HERS = {"reference": "Patient/p1"}


def test_a_draft_says_all_that_a_policy_may_ask() -> None:
    assert facets_of("DocumentReference", "n1", NOTE) == {
        "type:DocumentReference",
        "patient:p1",
        "label:R",
        "label:PSY",
        "category:clinical-note",
        "author:u1",
        "author:d7",
        "draft:true",
    }


def test_what_a_record_lacks_is_said_too() -> None:
    assert facets_of("Location", "l1", {}) == {"type:Location", "patient:", "label:", "author:", "draft:false"}
    assert facets_of("Patient", "p1", {}) == {"type:Patient", "patient:p1", "label:", "author:", "draft:false"}


@pytest.mark.parametrize(
    ("codes", "labels"), [([""], {"label:"}), (["", "R"], {"label:R"}), (["R", "V"], {"label:R", "label:V"})]
)
async def test_an_empty_code_is_no_label(database_url: str, codes: list[str], labels: set[str]) -> None:
    security = [{"code": code} for code in codes]
    conn = await asyncpg.connect(database_url)
    (told,) = await in_database(conn, [("Observation", "o1", {"meta": {"security": security}})])
    await conn.close()
    assert {word for word in told if word.startswith("label:")} == labels
    assert facets_of("Observation", "o1", {"meta": {"security": security}}) == told


@pytest.mark.parametrize(
    ("users", "authors"), [([""], {"author:"}), (["", "u1"], {"author:u1"}), (["u1", "u2"], {"author:u1", "author:u2"})]
)
async def test_an_empty_name_is_no_author(database_url: str, users: list[str], authors: set[str]) -> None:
    note = {"author": [{"identifier": {"system": "urn:bonfire:user", "value": user}} for user in users]}
    conn = await asyncpg.connect(database_url)
    (told,) = await in_database(conn, [("DocumentReference", "n1", note)])
    await conn.close()
    assert {word for word in told if word.startswith("author:")} == authors
    assert facets_of("DocumentReference", "n1", note) == told


@pytest.mark.parametrize(
    ("resource_type", "resource", "patient"),
    [
        ("Coverage", {"beneficiary": {"reference": "Patient/p1"}, "subscriber": {"reference": "Patient/p2"}}, "p1"),
        ("Task", {"for": {"reference": "https://clinic.example/fhir/Patient/p1/_history/3"}}, "p1"),
        ("Account", {"subject": [{"reference": "Device/1"}, {"reference": "Patient/p1"}]}, "p1"),
        (
            "Appointment",
            {"participant": [{"actor": {"reference": "Location/1"}}, {"actor": {"reference": "Patient/p1"}}]},
            "p1",
        ),
        ("Observation", {"subject": {"reference": "Group/g"}, "patient": {"reference": "Patient/p1"}}, "p1"),
        (
            "Provenance",
            {
                "target": [{"reference": "Patient/p2/_history/1"}],
                "extension": [
                    {
                        "url": "http://hl7.org/fhir/5.0/StructureDefinition/extension-Provenance.patient",
                        "valueReference": {"reference": "Patient/p1"},
                    }
                ],
            },
            "p1",
        ),
        ("Provenance", {"target": [{"reference": "Binary/1"}, {"reference": "Patient/p1/_history/1"}]}, "p1"),
        ("Observation", {"subject": {"reference": "Patient/"}}, ""),
        ("Observation", {"subject": {"reference": "Patient?identifier=1"}}, ""),
        ("Observation", {"subject": [{"reference": "Patient/p1"}]}, ""),
    ],
)
def test_whose_record_it_is(resource_type: str, resource: dict[str, Any], patient: str) -> None:
    assert f"patient:{patient}" in facets_of(resource_type, "x", resource)


async def in_database(conn: asyncpg.Connection, records: Sequence[Record]) -> list[frozenset[str]]:
    rows = await conn.fetch(
        "select bonfire.facets(type, id, resource::jsonb) words"
        " from unnest($1::text[], $2::text[], $3::text[]) with ordinality r (type, id, resource, n) order by n",
        [type for type, _, _ in records],
        [id for _, id, _ in records],
        [json.dumps(resource) for _, _, resource in records],
    )
    return [frozenset(row["words"]) for row in rows]


def synthea() -> Iterator[Record]:
    for path in sorted(DATA.glob("synthea*/*.json")):
        for entry in json.loads(path.read_text(encoding="utf-8"))["entry"]:
            resource = entry["resource"]
            yield resource["resourceType"], resource.get("id", entry["fullUrl"].rpartition("/")[2]), resource


async def test_real_records(database_url: str) -> None:
    records = list(synthea())
    if not records:
        pytest.skip("no Synthea data: BONFIRE_TEST_DATA names no folder that holds it")
    conn = await asyncpg.connect(database_url)
    told = await in_database(conn, records)
    await conn.close()
    for (type, id, resource), words in zip(records, told, strict=True):
        assert facets_of(type, id, resource) == words, (type, id)
    assert {word.partition(":")[0] for words in told for word in words} >= {"type", "patient", "category"}


TYPES = [
    "Patient",
    "Observation",
    "Coverage",
    "Task",
    "ResearchSubject",
    "EnrollmentRequest",
    "AppointmentResponse",
    "SupplyRequest",
    "Account",
    "Appointment",
    "Composition",
    "DocumentReference",
    "Provenance",
]
ELEMENTS = [
    "subject",
    "patient",
    "beneficiary",
    "for",
    "individual",
    "candidate",
    "actor",
    "deliverTo",
    "participant",
    "author",
    "recorder",
    "requester",
    "performer",
    "asserter",
    "sender",
    "authenticator",
    "category",
    "meta",
    "status",
    "docStatus",
    "extension",
    "target",
]
STATED = "http://hl7.org/fhir/5.0/StructureDefinition/extension-Provenance.patient"
PARTS = ["url", "valueReference", "reference", "identifier", "system", "value", "actor", "coding", "code", "security"]
REFERENCES = [
    "Patient/p1",
    "x/Patient/p2/_history/1",
    "Patient/",
    "Patient/a/b",
    "Patient/a?b",
    "#Patient/p1",
    "/Patient/p3",
    "Patient/p\n1",
    'Patient/"é',
    "Group/1",
    "Practitioner/d1",
    "https://c/Practitioner/d2",
    "PractitionerRole/r",
]
WORDS = ["urn:bonfire:user", STATED, "current", "preliminary", "R", "u1", "", 'q"\\', "é\n", *REFERENCES]


class Maker:
    """Records at random: FHIR's own shapes, and JSON made of its words in places where they do not belong."""

    def __init__(self, random: Random) -> None:
        self.random = random

    def record(self) -> Record:
        elements = self.random.sample(ELEMENTS, self.random.randint(1, 8))
        return self.random.choice(TYPES), "p1", {element: self.element(element) for element in elements}

    def element(self, name: str) -> Any:
        if self.random.random() < 0.3:
            return self.tangle(4)
        if name in ("status", "docStatus"):
            return self.random.choice(["current", "preliminary", "final"])
        if name == "category":
            return self.some(lambda: {"coding": self.some(lambda: {"code": self.random.choice(WORDS)})})
        if name == "extension":
            url = self.random.choice([STATED, [STATED], "x", None])
            return self.some(lambda: {"url": url, "valueReference": self.reference()})
        if name == "meta":
            return {"security": self.some(lambda: {"code": self.random.choice(WORDS)})}
        if name in ("performer", "participant"):
            return self.some(lambda: {"actor": self.reference()} if self.random.random() < 0.5 else self.reference())
        return self.reference() if self.random.random() < 0.6 else self.some(self.reference)

    def reference(self) -> Any:
        if self.random.random() < 0.3:
            system = self.random.choice(["urn:bonfire:user", ["urn:bonfire:user"], "x", None])
            return {"identifier": {"system": system, "value": self.random.choice(WORDS)}}
        return {"reference": self.random.choice(REFERENCES)}

    def tangle(self, depth: int) -> Any:
        kind = self.random.random()
        if depth == 0 or kind < 0.2:
            return self.random.choice([*WORDS, None, True, 7])
        if kind < 0.5:
            return self.some(lambda: self.tangle(depth - 1))
        return {name: self.tangle(depth - 1) for name in self.random.sample(PARTS, self.random.randint(1, 3))}

    def some(self, make: Callable[[], Any]) -> list[Any]:
        return [make() for _ in range(self.random.randint(0, 3))]


@pytest.mark.parametrize("seed", range(4))
async def test_any_records(database_url: str, seed: int) -> None:
    maker = Maker(Random(seed))
    made = [maker.record() for _ in range(3000)]
    conn = await asyncpg.connect(database_url)
    told = await in_database(conn, made)
    await conn.close()
    for record, words in zip(made, told, strict=True):
        assert facets_of(*record) == words, record
    # It is no test where all of them say the same.
    assert len(set(told)) > 800


async def test_app_state(database_url: str) -> None:
    conn = await asyncpg.connect(database_url)
    for owner, patient in ((None, None), ("u1", None), (None, "p1"), ("u1", "p1")):
        words = await conn.fetchval("select bonfire.app_state_facets('drafts', $1, $2)", owner, patient)
        assert app_state_facets("drafts", owner, patient) == set(words)
        assert f"author:{owner or ''}" in words
    await conn.close()
