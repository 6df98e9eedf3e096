"""What is said of where a version came from: as FHIR has it, and as it was."""

from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
from fhir.resources.R4B.provenance import Provenance

from bonfire.access.acts import Act, Decided
from bonfire.access.facets import patient_of
from bonfire.access.principal import Principal
from bonfire.access.provenance import provenances

NOW = datetime(2026, 3, 2, 9, 0, 0, 123456, UTC)
AMARA = Principal("north", "amara", "Dr. Amara Okafor")
AGENT = Principal("north", "ambient", "Ambient 2", kind="agent", behalf_of="amara")
ADA_HERSELF = Principal("north", "ada", "Ada Lovelace", patient="p1", purpose="PATRQT")
IMPORTER = Principal("north", "lab", "Lab feed", kind="service")


def act(
    done: Any = "create",
    id: str = "n1",
    *,
    signs: bool = False,
    patient: str | None = "p1",
    before: int | None = None,
    derived_from: tuple[str, ...] = (),
    resource_type: str = "DocumentReference",
    labels: tuple[dict[str, Any], ...] = (),
) -> Act:
    return Act(Decided(done, resource_type, id, signs, patient, labels, ("p",)), 7, before, derived_from)


def said(principal: Principal, *acts: Act) -> dict[str, Any]:
    [resource] = provenances(principal, acts, NOW, "notes.create")
    text = msgspec.json.encode(resource)
    Provenance.model_validate_json(text)
    decoded: dict[str, Any] = msgspec.json.decode(text)
    return decoded


def test_who_wrote_which_versions_when_and_why() -> None:
    resource = said(AMARA, act(), act(id="n2"))
    assert resource["target"] == [
        {"reference": "DocumentReference/n1/_history/7"},
        {"reference": "DocumentReference/n2/_history/7"},
    ]
    assert resource["recorded"] == "2026-03-02T09:00:00.123Z"
    assert resource["activity"]["coding"][0]["code"] == "CREATE"
    assert resource["activity"]["text"] == "notes.create"
    assert resource["reason"][0]["coding"][0]["code"] == "TREAT"
    [agent] = resource["agent"]
    assert agent["type"]["coding"][0]["code"] == "author"
    assert agent["who"] == {
        "type": "Practitioner",
        "identifier": {"system": "urn:bonfire:user", "value": "amara"},
        "display": "Dr. Amara Okafor",
    }
    assert "signature" not in resource
    assert patient_of("Provenance", "x", resource) == "p1"


def test_an_update_revises_what_was_there_and_a_deletion_removes_it() -> None:
    updated = said(AMARA, act("update", before=5))
    assert updated["activity"]["coding"][0]["code"] == "UPDATE"
    assert updated["entity"] == [
        {"role": "revision", "what": {"reference": "DocumentReference/n1/_history/5"}},
    ]
    deleted = said(AMARA, act("delete", before=5))
    assert deleted["activity"]["coding"][0]["code"] == "DELETE"
    assert deleted["entity"][0]["role"] == "removal"
    assert said(AMARA, act("update", before=5), act(id="n2"))["activity"]["coding"][0]["code"] == "UPDATE"


def test_a_signature_is_bound_to_who_and_when() -> None:
    [signature] = said(AMARA, act("update", signs=True, before=5))["signature"]
    assert signature["type"][0]["code"] == "1.2.840.10065.1.12.1.1"
    assert (signature["when"], signature["who"]["identifier"]["value"]) == ("2026-03-02T09:00:00.123Z", "amara")
    # It records an act; it is no cryptographic signature, and does not look like one.
    assert "data" not in signature


def test_what_an_agent_drafts_names_it_and_who_answers_for_it() -> None:
    resource = said(AGENT, act(derived_from=("Media/m1/_history/2", "Media/m1/_history/2")))
    assembler, author = resource["agent"]
    assert assembler["type"]["coding"][0]["code"] == "assembler"
    assert (assembler["who"]["type"], assembler["who"]["identifier"]["value"]) == ("Device", "ambient")
    assert assembler["onBehalfOf"]["identifier"]["value"] == "amara"
    assert author["type"]["coding"][0]["code"] == "author"
    assert author["who"]["identifier"]["value"] == "amara"
    assert resource["entity"] == [{"role": "source", "what": {"reference": "Media/m1/_history/2"}}]


def test_a_patient_and_a_service_are_named_as_what_they_are() -> None:
    [agent] = said(ADA_HERSELF, act())["agent"]
    assert agent["who"]["reference"] == "Patient/p1"
    [agent] = said(IMPORTER, act())["agent"]
    assert agent["type"]["coding"][0]["code"] == "assembler"
    assert agent["who"]["type"] == "Device"


def test_each_patients_records_are_spoken_of_apart() -> None:
    resources = provenances(AMARA, [act(), act(id="n2", patient="p2"), act(id="n3", patient=None)], NOW, "x")
    assert [patient_of("Provenance", "x", each) for each in resources] == ["p1", "p2", None]
    assert [len(each["target"]) for each in resources] == [1, 1, 1]


def test_what_is_labelled_is_spoken_of_apart_and_labelled_so() -> None:
    label = {"system": "s", "code": "R"}
    acts = [act(labels=(label,)), act(id="n2", labels=(label,)), act(id="n3")]
    restricted, other = provenances(AMARA, acts, NOW, "x")
    assert restricted["meta"]["security"] == [label]
    assert len(restricted["target"]) == 2
    assert "meta" not in other


def test_no_provenance_is_made_of_provenance() -> None:
    assert provenances(AMARA, [act(resource_type="Provenance", patient=None)], NOW, "x") == []
    assert provenances(AMARA, [], NOW, "x") == []


@pytest.mark.parametrize("principal", [AMARA, AGENT, ADA_HERSELF, IMPORTER], ids=lambda each: each.user)
def test_all_of_them_are_valid(principal: Principal) -> None:
    said(principal, act("update", signs=True, before=3, derived_from=("Media/m/_history/1",)), act("delete", before=2))
