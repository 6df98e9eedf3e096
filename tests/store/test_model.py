"""A declaration that contradicts itself is refused, with the name of what is wrong."""

from collections.abc import Mapping
from typing import Any

import pytest

from bonfire.store.model import ModelError, Order, ReadModel, Source, asc, desc, snake_case

GOOD: dict[str, Any] = {
    "name": "things",
    "columns": {"patientId": "text", "at": "timestamptz", "data": "jsonb"},
    "sources": (Source("Basic", {"patientId": "r.id"}),),
    "key": ("patientId",),
    "order": (desc("at"),),
}


def test_a_good_one_is_taken() -> None:
    model = ReadModel(**GOOD, latest_by=("patientId",), latest_order=(asc("at"),))
    assert model.order == (Order("at", descending=True),)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"name": "Things"}, "camelCase"),
        ({"name": "th_ings"}, "camelCase"),
        ({"name": "t" * 33}, "up to 32"),
        ({"columns": {}, "key": (), "order": ()}, "no columns"),
        ({"columns": {"id": "text"}}, "column `id`"),
        ({"columns": {"tenant": "text"}}, "column `tenant`"),
        ({"columns": {"facets": "jsonb"}}, "column `facets`"),
        ({"columns": {"patient_id": "text"}}, "column `patient_id`"),
        ({"columns": {"patientId": "varchar"}}, "`varchar` is none of text, timestamptz"),
        ({"columns": {**GOOD["columns"], "patientID": "text"}}, "are both `patient_id`"),
        ({"key": ("other",)}, "key: `other` is no column"),
        ({"key": ("at",)}, "key: column `at` is timestamptz; it must be text"),
        ({"key": ("patientId", "patientId")}, "key: `patientId` is there twice"),
        ({"order": (asc("other"),)}, "order: `other` is no column"),
        ({"order": (asc("data"),)}, "order: column `data` is jsonb"),
        ({"latest_by": ("at",)}, "latest_by: column `at`"),
        ({"latest_order": (asc("at"),)}, "latest_order says nothing without latest_by"),
        ({"sources": ()}, "no sources"),
        ({"sources": (Source("Patients", {}),)}, "`Patients` is no FHIR R4 resource type"),
        ({"sources": (Source("Patient/x", {}),)}, "`Patient/x` is no FHIR R4 resource type"),
        ({"sources": (Source("AppState/", {}),)}, "`AppState/` is no FHIR R4 resource type"),
        ({"sources": (Source("AppState/a b", {}),)}, "`AppState/a b` is no FHIR R4 resource type"),
        ({"sources": (Source("Basic", {}), Source("Basic", {}))}, "`Basic` is there twice"),
        ({"sources": (Source("AppState", {}), Source("AppState/x", {}))}, "so also `AppState/x`"),
        ({"sources": (Source("Basic", {"other": "1"}),)}, "selects `other`, which is no column"),
        ({"sources": (Source("Basic", {}, where="'$bonfire_body$' = ''"),)}, "can't hold `$bonfire_`"),
    ],
)
def test_a_bad_one_is_refused(change: Mapping[str, Any], message: str) -> None:
    with pytest.raises(ModelError) as refused:
        ReadModel(**{**GOOD, **change})
    assert message in str(refused.value)


def test_text_that_an_index_has_no_room_for_is_refused() -> None:
    columns = {f"c{n}": "text" for n in range(9)}
    with pytest.raises(ModelError, match="index"):
        ReadModel(**{**GOOD, "columns": columns, "key": tuple(columns), "order": ()})
    with pytest.raises(ModelError, match="index"):
        ReadModel(**{**GOOD, "columns": columns, "key": (), "order": tuple(map(asc, columns))})


@pytest.mark.parametrize(
    ("name", "spelled"),
    [
        ("things", "things"),
        ("patientId", "patient_id"),
        ("patientID", "patient_id"),
        ("latestPHQScore", "latest_phq_score"),
        ("phq9Total", "phq9_total"),
    ],
)
def test_snake_case(name: str, spelled: str) -> None:
    assert snake_case(name) == spelled
