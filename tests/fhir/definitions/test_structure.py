"""The table of R4's structure."""

import json
import os
from pathlib import Path

import pytest

from bonfire.fhir.definitions.compile_structure import compile_definitions
from bonfire.fhir.definitions.structure import resource_structures, structures
from bonfire.store.types import RESOURCE_TYPES


def test_the_resource_types_are_those_that_the_store_has_tables_for() -> None:
    assert set(resource_structures()) == RESOURCE_TYPES


def test_every_type_that_is_named_is_there() -> None:
    for structure in structures().values():
        for found in structure.properties.values():
            assert found.primitive or found.type in structures(), f"{structure.name}.{found.name}"


def test_a_choice_is_one_property_per_type_with_companions_for_primitives() -> None:
    properties = structures()["Patient"].properties
    assert properties["deceasedBoolean"].element == "deceased"
    assert properties["_deceasedDateTime"].companion
    assert "deceased" not in properties
    assert "_deceasedQuantity" not in properties


def test_what_is_required_may_be_any_property_of_the_choice_or_its_extension() -> None:
    by_name = {each.name: each.properties for each in structures()["MedicationRequest"].required}
    assert by_name["medication[x]"] == {"medicationCodeableConcept", "medicationReference"}
    assert by_name["status"] == {"status", "_status"}


def test_a_content_reference_has_the_type_of_what_it_refers_to() -> None:
    assert structures()["Questionnaire.item"].properties["item"].type == "Questionnaire.item"
    assert structures()["Observation.component"].properties["referenceRange"].type == "Observation.referenceRange"


def test_a_code_is_bound_where_its_value_set_can_be_listed() -> None:
    assert structures()["Patient"].properties["gender"].codes == frozenset({"male", "female", "other", "unknown"})
    assert structures()["Attachment"].properties["contentType"].codes is None
    assert structures()["Patient"].properties["_gender"].codes is None


def test_the_tables_are_what_the_official_definitions_give() -> None:
    folder = os.environ.get("BONFIRE_TEST_R4_EXAMPLES")
    if not folder:
        pytest.skip("BONFIRE_TEST_R4_EXAMPLES names no unpacked npm package hl7.fhir.r4.examples 4.0.1")
    paths = sorted(Path(folder).glob("*-*.json"))
    compiled = compile_definitions(json.loads(path.read_bytes()) for path in paths)
    shipped = Path(__file__).parents[3] / "server/bonfire/fhir/definitions"
    assert compiled == tuple(json.loads((shipped / name).read_bytes()) for name in ("structure.json", "codes.json"))
