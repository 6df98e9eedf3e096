"""Files read as what an import writes."""

import json
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from bonfire.fhir.bundle import Create, Update
from bonfire.fhir.import_files import CHUNK, Refused, Unit, find_files, read_units

PATIENT: dict[str, Any] = {"resourceType": "Patient"}


def read(path: Path) -> list[Unit | Refused]:
    ids = count(1)
    return list(read_units(path, lambda: f"new-{next(ids)}"))


def one(folder: Path, value: Any) -> Unit | Refused:
    path = folder / "file.json"
    path.write_text(json.dumps(value))
    [unit] = read(path)
    return unit


def bundle(kind: str, *entries: dict[str, Any]) -> dict[str, Any]:
    return {"resourceType": "Bundle", "type": kind} | ({"entry": list(entries)} if entries else {})


def ids_of(unit: Unit | Refused) -> list[str | None]:
    assert isinstance(unit, Unit), unit
    return [entry.operation.id for entry in unit.entries if isinstance(entry.operation, Create | Update)]


def test_folders_are_searched_and_files_are_taken_as_they_are_named(tmp_path: Path) -> None:
    for name in ("b.json", "a.ndjson", "notes.txt", "deep/c.json"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("{}")
    found = find_files([tmp_path / "notes.txt", tmp_path, tmp_path / "b.json"])
    assert [path.name for path in found] == ["notes.txt", "a.ndjson", "b.json", "c.json"]


def test_a_resource_keeps_its_id(tmp_path: Path) -> None:
    post = {"method": "POST", "url": "Patient"}
    entries: list[dict[str, Any]] = [
        {"fullUrl": "urn:uuid:a-b", "resource": PATIENT | {"id": "other"}, "request": post},
        {"fullUrl": "urn:oid:1.2", "resource": PATIENT, "request": post},
        {"fullUrl": "http://x/fhir/Patient/c", "resource": PATIENT, "request": post},
        {"resource": PATIENT | {"id": "d"}, "request": post},
        {"resource": PATIENT, "request": post},
        {"resource": PATIENT | {"id": "e"}, "request": {"method": "PUT", "url": "Patient/e"}},
        {"fullUrl": "urn:uuid:f", "resource": PATIENT, "request": post | {"ifNoneExist": "identifier=1"}},
    ]
    unit = one(tmp_path, bundle("transaction", *entries))
    assert ids_of(unit) == ["a-b", "1.2", "c", "d", "new-1", "e", "f"]
    assert isinstance(unit, Unit)
    assert [type(entry.operation) for entry in unit.entries] == [Update] * 6 + [Create]


@pytest.mark.parametrize("kind", ["collection", "searchset", "batch"])
def test_bundles_without_requests_are_unpacked(tmp_path: Path, kind: str) -> None:
    assert ids_of(one(tmp_path, bundle(kind, {"resource": PATIENT | {"id": "a"}}))) == ["a"]


@pytest.mark.parametrize("kind", ["document", "message"])
def test_documents_and_messages_stay_whole(tmp_path: Path, kind: str) -> None:
    unit = one(tmp_path, bundle(kind, {"resource": PATIENT}) | {"id": "doc"})
    assert ids_of(unit) == ["doc"]
    assert isinstance(unit, Unit)
    assert unit.entries[0].operation.resource_type == "Bundle"  # type: ignore[union-attr]  # it is an Update


@pytest.mark.parametrize(
    ("value", "field"),
    [
        ([], None),
        ({"name": "no resource"}, None),
        (bundle("history"), None),
        (bundle("collection", {"resource": PATIENT}, {"resource": PATIENT | {"x": 1}}), "Bundle.entry[1].resource.x"),
        (bundle("collection", {"fullUrl": "urn:uuid:x"}), "Bundle.entry[0].resource"),
        (bundle("collection", {"fullUrl": "urn:uuid:a b", "resource": PATIENT}), "Bundle.entry[0].fullUrl"),
        (bundle("collection", {"fullUrl": "urn:uuid:a_b", "resource": PATIENT}), "Bundle.entry[0].fullUrl"),
        (
            bundle("transaction", {"request": {"method": "DELETE", "url": "Patient/1"}}),
            "Bundle.entry[0].request.method",
        ),
        (
            bundle("collection", *({"fullUrl": f"urn:{kind}:1.2", "resource": PATIENT} for kind in ("uuid", "oid"))),
            "Bundle.entry[1].request.url",
        ),
    ],
)
def test_what_can_not_be_loaded_is_refused_by_element(tmp_path: Path, value: Any, field: str | None) -> None:
    refused = one(tmp_path, value)
    assert isinstance(refused, Refused)
    assert refused.refusal.field == field


def test_lines_are_read_one_by_one(tmp_path: Path) -> None:
    path = tmp_path / "file.ndjson"
    lines = [json.dumps(PATIENT | {"id": "a"}), "", "{nonsense", json.dumps(PATIENT | {"x": 1}), json.dumps(PATIENT)]
    path.write_text("\n".join(lines))
    first, second, unit = read(path)
    assert isinstance(first, Refused)
    assert isinstance(second, Refused)
    assert (first.line, second.line) == (3, 4)
    assert ids_of(unit) == ["a", "new-1"]
    assert isinstance(unit, Unit)
    assert unit.lines == [1, 5]
    assert [part.lines for part in unit.split()] == [[1], [5]]
    assert ids_of(unit.only({5})) == ["new-1"]


def test_lines_about_the_same_record_go_into_different_transactions(tmp_path: Path) -> None:
    path = tmp_path / "file.ndjson"
    path.write_text("\n".join(json.dumps(PATIENT | {"id": id_}) for id_ in ("a", "b", "a")))
    assert [ids_of(unit) for unit in read(path)] == [["a", "b"], ["a"]]


def test_many_lines_are_read_in_chunks(tmp_path: Path) -> None:
    path = tmp_path / "file.ndjson"
    path.write_text("\n".join(json.dumps(PATIENT | {"id": f"p{n}"}) for n in range(CHUNK + 1)))
    assert [len(ids_of(unit)) for unit in read(path)] == [CHUNK, 1]


def test_a_missing_file_is_an_error_of_the_system(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="file"):
        read(tmp_path / "missing.json")
