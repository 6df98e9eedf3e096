"""Whole folders loaded: all of Synthea, twice, and what is wrong named by file, entry and field."""

import json
import os
from pathlib import Path
from typing import Any

import pytest

from bonfire.fhir.importer import ImportReport, import_folder
from bonfire.store import resources
from bonfire.store.pool import Database
from bonfire.store.reach import EVERYTHING

DATA = Path(os.environ.get("BONFIRE_TEST_DATA", Path(__file__).parents[3] / "shared" / "data"))

PATIENT: dict[str, Any] = {"resourceType": "Patient", "id": "p"}
PRACTITIONER: dict[str, Any] = {
    "resourceType": "Practitioner",
    "id": "d",
    "identifier": [{"system": "npi", "value": "1"}],
}

NO_CODE = "expected a code: no space at either end, single ones between, got a number"


def write(folder: Path, name: str, *values: Any) -> Path:
    path = folder / name
    path.write_text("\n".join(json.dumps(value) for value in values))
    return path


def bundle(*given: dict[str, Any]) -> dict[str, Any]:
    entries = [
        {
            "fullUrl": f"urn:uuid:{each['id']}",
            "resource": each,
            "request": {"method": "POST", "url": each["resourceType"]},
        }
        for each in given
    ]
    return {"resourceType": "Bundle", "type": "transaction", "entry": entries}


def basic(id_: str, reference: str) -> dict[str, Any]:
    return {"resourceType": "Basic", "id": id_, "code": {"text": "x"}, "subject": {"reference": reference}}


async def subject_of(database: Database, id_: str) -> str:
    async with database.transaction("north", reach=EVERYTHING) as conn:
        version = await resources.read(conn, "Basic", id_)
    assert version is not None
    return str(json.loads(version.resource)["subject"]["reference"])


async def records(database: Database) -> dict[tuple[str, str], int]:
    async with database.owner() as conn:
        tables = await conn.fetch(
            "select relname from pg_class where relnamespace = 'public'::regnamespace and relkind = 'r'"
            " and relname not like '%\\_history'"
        )
        found: dict[tuple[str, str], int] = {}
        for (table,) in tables:
            rows = await conn.fetch(f'select tenant, resource_type, count(*) from public."{table}" group by 1, 2')
            found |= {(row["tenant"], row["resource_type"]): row["count"] for row in rows}
        return found


async def test_an_import_twice_changes_nothing(database: Database, tmp_path: Path) -> None:
    write(tmp_path, "a.json", bundle(PATIENT | {"multipleBirthInteger": 2}, basic("b", "urn:uuid:p")))
    first = await import_folder(database, "north", [tmp_path])
    assert (first.created, first.updated, first.unchanged, first.failed) == (2, 0, 0, [])
    assert await subject_of(database, "b") == "Patient/p"
    again = await import_folder(database, "north", [tmp_path])
    assert (again.created, again.updated, again.unchanged) == (0, 0, 2)
    write(tmp_path, "a.json", bundle(PATIENT | {"multipleBirthInteger": 3}, basic("b", "urn:uuid:p")))
    changed = await import_folder(database, "north", [tmp_path])
    assert (changed.created, changed.updated, changed.unchanged) == (0, 1, 1)
    assert changed.summary == "1 files, 2 resources: 0 created, 1 updated, 1 unchanged"


async def test_a_precision_that_changed_is_a_change(database: Database, tmp_path: Path) -> None:
    head = '{"resourceType":"Observation","id":"o","status":"final","code":{"text":"x"}'
    for value, updated in (("2.5", 0), ("2.50", 1), ("25.0e-1", 0), ("2.5", 1), ("2.5", 0)):
        (tmp_path / "o.json").write_text(f'{head},"valueQuantity":{{"value":{value}}}}}')
        assert (await import_folder(database, "north", [tmp_path])).updated == updated, value


async def test_a_bad_entry_rolls_its_bundle_back_and_the_others_go_on(database: Database, tmp_path: Path) -> None:
    write(tmp_path, "1-invalid.json", bundle(PATIENT, PATIENT | {"id": "q", "gender": 5}))
    write(tmp_path, "2-dangling.json", bundle(PATIENT, basic("b", "urn:uuid:nobody")))
    write(tmp_path, "3-conditional.json", bundle(PATIENT, basic("b", "Practitioner?identifier=npi|1")))
    write(tmp_path, "4-unsupported.json", bundle(PATIENT, basic("b", "Practitioner?name=x")))
    (tmp_path / "5-broken.json").write_text('{"resourceType": "Patient"')
    write(tmp_path, "6-good.json", PATIENT | {"id": "good"})
    report = await import_folder(database, "north", [tmp_path, tmp_path / "missing.json"])
    subject = "resource.subject.reference"
    unsupported = "Search by anything but _id and identifier is not supported yet for Practitioner"
    assert sorted(
        (Path(failure.file).name, failure.entry, failure.field, failure.details) for failure in report.failed
    ) == [
        ("1-invalid.json", 1, "resource.gender", f"gender: {NO_CODE}"),
        ("2-dangling.json", 1, subject, "No entry of the Bundle has the fullUrl that this refers to"),
        ("3-conditional.json", 1, subject, "The conditional reference finds no resource"),
        ("4-unsupported.json", 1, subject, unsupported),
        ("5-broken.json", None, "", "Malformed JSON at line 1, column 27: Expecting ',' delimiter"),
        ("missing.json", None, "", "The file can't be read: No such file or directory"),
    ]
    assert (report.files, report.resources) == (1, 1)
    assert report.summary.endswith("; 6 files not loaded whole")
    assert await records(database) == {("north", "Patient"): 1}


async def test_a_file_waits_for_the_one_that_it_needs(database: Database, tmp_path: Path) -> None:
    write(tmp_path, "a.json", bundle(basic("b", "Organization?identifier=2")))
    write(tmp_path, "b.json", bundle(PRACTITIONER, basic("c", "Practitioner?identifier=npi|1")))
    organization = {"resourceType": "Organization", "id": "o", "identifier": [{"value": "2"}]}
    write(tmp_path, "c.json", bundle(organization, basic("d", "Practitioner?identifier=npi|1")))
    seen: list[tuple[int, int, int]] = []
    report = await import_folder(database, "north", [tmp_path], lambda *counts: seen.append(counts))
    assert (report.files, report.created, report.failed) == (3, 5, [])
    assert await subject_of(database, "b") == "Organization/o"
    assert await subject_of(database, "c") == await subject_of(database, "d") == "Practitioner/d"
    assert seen == [(0, 3, 0), (0, 3, 0), (1, 3, 2), (2, 3, 4), (3, 3, 5)]


async def test_lines_stand_for_themselves(database: Database, tmp_path: Path) -> None:
    path = write(
        tmp_path,
        "a.ndjson",
        PATIENT,
        basic("waits", "Practitioner?identifier=npi|1"),
        basic("never", "Practitioner?identifier=npi|2"),
        PATIENT | {"id": "q", "gender": 5},
        basic("b", "Patient/p"),
    )
    write(tmp_path, "b.json", PRACTITIONER)
    report = await import_folder(database, "north", [tmp_path])
    assert report.created == 4
    assert sorted(failure.message for failure in report.failed) == [
        "line 3, Basic.subject.reference: The conditional reference finds no resource",
        f"line 4, Patient.gender: gender: {NO_CODE}",
    ]
    assert {failure.file for failure in report.failed} == {str(path)}
    assert report.files == 1
    assert await subject_of(database, "waits") == "Practitioner/d"


async def test_a_conditional_create_finds_what_is_there(database: Database, tmp_path: Path) -> None:
    def providers(id_: str) -> dict[str, Any]:
        given = bundle(PRACTITIONER | {"id": id_}, basic("b", f"urn:uuid:{id_}"))
        given["entry"][0]["request"]["ifNoneExist"] = "identifier=npi|1"
        return given

    write(tmp_path, "a.json", providers("first"))
    assert (await import_folder(database, "north", [tmp_path])).created == 2
    write(tmp_path, "a.json", providers("second"))
    again = await import_folder(database, "north", [tmp_path])
    assert (again.created, again.unchanged) == (0, 2)
    assert await subject_of(database, "b") == "Practitioner/first"


async def test_tenants_are_loaded_apart(database: Database, tmp_path: Path) -> None:
    write(tmp_path, "a.json", bundle(PATIENT))
    for tenant in ("north", "south"):
        assert (await import_folder(database, tenant, [tmp_path])).created == 1
    assert await records(database) == {("north", "Patient"): 1, ("south", "Patient"): 1}


def test_a_report_says_all_in_a_line() -> None:
    report = ImportReport(files=2, created=3, updated=1, unchanged=4)
    assert report.resources == 8
    assert report.summary == "2 files, 8 resources: 3 created, 1 updated, 4 unchanged"


def _expected(folder: Path) -> dict[str, int]:
    written = {
        (entry["resource"]["resourceType"], entry["resource"]["id"])
        for path in folder.glob("*.json")
        for entry in json.loads(path.read_bytes())["entry"]
    }
    types = [type_ for type_, _ in written]
    return {type_: types.count(type_) for type_ in set(types)}


@pytest.mark.parametrize(("name", "count"), [("synthea", 5075), ("synthea-conditional", 6069)])
async def test_all_of_synthea(database: Database, name: str, count: int) -> None:
    folder = DATA / name
    if not folder.is_dir():
        pytest.skip("no Synthea data: BONFIRE_TEST_DATA names no folder that holds it")
    report = await import_folder(database, "north", [folder])
    assert report.failed == []
    assert report.resources == count
    expected = _expected(folder)
    assert await records(database) == {("north", type_): number for type_, number in expected.items()}
    again = await import_folder(database, "north", [folder])
    assert (again.created, again.updated, again.unchanged) == (0, 0, count)
    async with database.owner() as conn:
        waiting = [
            await conn.fetchval(
                f'select count(*) from {type_} where resource::text ~ \'"reference": "[^"]*([?]|urn:)\''
            )
            for type_ in ("encounter", "observation", "claim", "documentreference", "careteam")
        ]
    assert waiting == [0] * 5


async def test_what_was_loaded_is_in_the_trail_and_not_from_where(database: Database, tmp_path: Path) -> None:
    folder = tmp_path / "Lovelace"
    folder.mkdir()
    write(folder, "Ada_Lovelace.json", bundle(PATIENT, basic("b", "urn:uuid:p")))
    write(folder, "others.ndjson", {**PATIENT, "id": "p2"}, {**PATIENT, "id": "p3"})
    await import_folder(database, "north", [folder])
    # Nothing new: nothing to tell.
    await import_folder(database, "north", [folder])
    async with database.transaction("north", reach=EVERYTHING) as conn:
        rows = await conn.fetch("select * from bonfire.audit where subtype = 'import' order by at")
    assert [(row["patient"], row["count"], json.loads(row["detail"])) for row in rows] == [
        ("p", 2, {"created": 2}),
        (None, 2, {"created": 2}),
    ]
    assert "Lovelace" not in str(rows)
