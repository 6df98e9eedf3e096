"""Requests checked and taken apart before any transaction begins."""

from typing import Any

import pytest

from bonfire.fhir.bundle import Create, Entry, Update
from bonfire.fhir.outcome import Refusal
from bonfire.fhir.prepare import Batch, Transaction, prepare_bundle, prepare_lone

PATIENT: dict[str, Any] = {"resourceType": "Patient", "id": "p"}


def bundle(kind: str, *resources: dict[str, Any]) -> dict[str, Any]:
    entries = [
        {"resource": each, "request": {"method": "POST", "url": each.get("resourceType", "Patient")}}
        for each in resources
    ]
    return {"resourceType": "Bundle", "type": kind, "entry": entries}


def test_a_lone_resource_is_checked_and_its_links_are_found() -> None:
    resource = {
        "resourceType": "Encounter",
        "status": "planned",
        "class": {"code": "x"},
        "subject": {"reference": "Patient/1"},
    }
    entry = prepare_lone(Create("Encounter", resource))
    assert [link.path for link in entry.links] == ["Encounter.subject.reference"]
    assert entry.lone
    with pytest.raises(Refusal, match="status is missing"):
        prepare_lone(Create("Encounter", {"resourceType": "Encounter", "class": {"code": "x"}}))
    with pytest.raises(Refusal, match="Encounter is expected"):
        prepare_lone(Create("Encounter", PATIENT))


@pytest.mark.parametrize("resource", [PATIENT | {"id": "q"}, {"resourceType": "Patient"}])
def test_an_update_must_say_its_id(resource: dict[str, Any]) -> None:
    with pytest.raises(Refusal) as refused:
        prepare_lone(Update("Patient", "p", resource))
    assert refused.value.field == "Patient.id"


def test_a_transaction_is_refused_as_a_whole_with_every_issue() -> None:
    with pytest.raises(Refusal) as refused:
        prepare_bundle(bundle("transaction", PATIENT, PATIENT | {"x": 1}, {"id": "no type"}))
    assert [issue.expression for issue in refused.value.issues] == [
        "Bundle.entry[1].resource.x",
        "Bundle.entry[2].resource",
    ]


def test_a_batch_is_refused_by_entry() -> None:
    prepared = prepare_bundle(bundle("batch", PATIENT, PATIENT | {"x": 1}))
    assert isinstance(prepared, Batch)
    assert [type(entry) for entry in prepared.entries] == [Entry, Refusal]


def test_an_empty_transaction_is_one() -> None:
    assert prepare_bundle({"resourceType": "Bundle", "type": "transaction"}) == Transaction([])


@pytest.mark.parametrize("value", [None, [], PATIENT, bundle("collection"), {"resourceType": "Bundle"}])
def test_other_things_are_refused(value: Any) -> None:
    with pytest.raises(Refusal):
        prepare_bundle(value)
