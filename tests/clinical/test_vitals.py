"""Vital signs: one observation each, units that a machine can read, numbers as they were written."""

from decimal import Decimal

import pytest

from bonfire.store.reach import EVERYTHING
from bonfire_protocol.faults import Fault, FaultCode
from support.clinic import Clinic


async def test_each_measurement_is_an_observation(clinic: Clinic) -> None:
    recorded = await clinic.mutate(
        "vitals.record",
        {
            "patientId": await clinic.patient(),
            "systolic": 128,
            "diastolic": 79,
            "weightKg": Decimal("70.50"),
            "at": "2026-03-01T08:00:00Z",
        },
    )
    pressure, weight = [await clinic.resource("Observation", id) for id in recorded["ids"]]
    assert [part["valueQuantity"]["value"] for part in pressure["component"]] == [128, 79]
    assert pressure["component"][0]["valueQuantity"]["code"] == "mm[Hg]"
    assert weight["category"][0]["coding"][0]["code"] == "vital-signs"
    assert weight["effectiveDateTime"] == "2026-03-01T08:00:00.000000Z"
    async with clinic.database.transaction("north", reach=EVERYTHING) as conn:
        spelled = "select resource #>> '{valueQuantity,value}' from observation where id = $1"
        assert await conn.fetchval(spelled, recorded["ids"][1]) == "70.50"


@pytest.mark.parametrize(
    ("args", "field"),
    [({}, None), ({"systolic": 120}, "diastolic"), ({"diastolic": 80}, "systolic"), ({"heartRate": 0}, None)],
)
async def test_half_a_measurement_is_none(clinic: Clinic, args: dict[str, int], field: str | None) -> None:
    with pytest.raises(Fault) as refused:
        await clinic.mutate("vitals.record", {"patientId": await clinic.patient(), **args})
    assert (refused.value.code, refused.value.field) == (FaultCode.bad_arguments, field)
