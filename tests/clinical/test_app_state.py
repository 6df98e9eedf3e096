"""App state from a client: one's own, the tenant's, and what neither may do."""

import asyncio

import pytest

from bonfire_protocol.faults import Fault, FaultCode
from support.clinic import AMARA, BEN, FRONT, SOUTH, Clinic


def put(id: str, data: object = 1, **more: object) -> dict[str, object]:
    return {"collection": "ui", "id": id, "data": data, **more}


async def test_a_document_is_saved_changed_and_removed(clinic: Clinic) -> None:
    first = await clinic.mutate("appState.put", put("a", {"open": [1.50, "é"]}))
    assert (first["version"], first["owner"], first["data"]) == (1, None, {"open": [1.5, "é"]})
    second = await clinic.mutate("appState.put", put("a", None))
    assert (second["version"], second["data"]) == (2, None)
    assert await clinic.query("appState.get", {"collection": "ui", "id": "a"}) == second
    assert await clinic.mutate("appState.remove", {"collection": "ui", "id": "a"}) is True
    assert await clinic.mutate("appState.remove", {"collection": "ui", "id": "a"}) is False
    assert await clinic.query("appState.get", {"collection": "ui", "id": "a"}) is None


async def test_what_is_ones_own_is_nobody_elses(clinic: Clinic) -> None:
    mine = await clinic.mutate("appState.put", put("mine", private=True))
    shared = await clinic.mutate("appState.put", put("shared"))
    assert mine["owner"] == AMARA.user
    assert await clinic.query("appState.list", {"collection": "ui"}) == [shared, mine]
    assert await clinic.query("appState.list", {"collection": "ui"}, by=BEN) == [shared]
    assert await clinic.query("appState.get", {"collection": "ui", "id": "mine"}, by=BEN) is None
    for name, args in (
        ("appState.put", put("mine", 2)),
        ("appState.put", put("mine", 2, private=True)),
        ("appState.remove", {"collection": "ui", "id": "mine"}),
    ):
        with pytest.raises(Fault) as refused:
            await clinic.mutate(name, args, by=BEN)
        assert refused.value.code is FaultCode.forbidden
    assert (await clinic.mutate("appState.put", put("shared", 2), by=BEN))["owner"] is None
    # Nobody makes the tenant's document their own, nor their own the tenant's by saving it.
    with pytest.raises(Fault) as refused:
        await clinic.mutate("appState.put", put("shared", 3, private=True))
    assert (refused.value.code, refused.value.field) == (FaultCode.bad_arguments, "private")
    assert (await clinic.mutate("appState.put", put("mine", 2)))["owner"] == AMARA.user


async def test_another_tenant_has_its_own(clinic: Clinic) -> None:
    await clinic.mutate("appState.put", put("a"))
    assert await clinic.query("appState.list", {"collection": "ui"}, by=SOUTH) == []
    assert (await clinic.mutate("appState.put", put("a"), by=SOUTH))["version"] == 1


async def test_a_list_may_be_of_one_patient_and_is_bounded(clinic: Clinic) -> None:
    ada, bea = await clinic.patient("Ada"), await clinic.patient("Bea")
    for id, patient in (("a", ada), ("b", bea), ("c", ada), ("d", None)):
        await clinic.mutate("appState.put", put(id, patientId=patient))
    listed = await clinic.query("appState.list", {"collection": "ui", "patientId": ada})
    assert [document["id"] for document in listed] == ["c", "a"]
    assert len(await clinic.query("appState.list", {"collection": "ui", "limit": 3})) == 3
    with pytest.raises(Fault, match="wrong type or size"):
        await clinic.query("appState.list", {"collection": "ui", "limit": 501})


async def test_an_id_that_a_hidden_document_has_is_not_free(clinic: Clinic) -> None:
    ada = await clinic.patient()
    await clinic.mutate("appState.put", put("x", patientId=ada))
    assert await clinic.query("appState.list", {"collection": "ui"}, by=FRONT) == []
    with pytest.raises(Fault) as refused:
        await clinic.mutate("appState.put", put("x"), by=FRONT)
    assert (refused.value.code, refused.value.field) == (FaultCode.forbidden, "id")
    # As if there were none.
    assert await clinic.mutate("appState.remove", {"collection": "ui", "id": "x"}, by=FRONT) is False
    assert len(await clinic.query("appState.list", {"collection": "ui"})) == 1


async def test_two_users_who_choose_one_id_at_once_do_not_share_it(clinic: Clinic) -> None:
    outcomes = await asyncio.gather(
        clinic.mutate("appState.put", put("x", private=True), by=AMARA),
        clinic.mutate("appState.put", put("x", private=True), by=BEN),
        return_exceptions=True,
    )
    saved = [outcome for outcome in outcomes if isinstance(outcome, dict)]
    refused = [outcome.code for outcome in outcomes if isinstance(outcome, Fault)]
    assert len(saved) == len(refused) == 1
    assert refused[0] in (FaultCode.version_conflict, FaultCode.forbidden)
    kept = await clinic.query("appState.list", {"collection": "ui"}, by=AMARA if saved[0]["owner"] == "amara" else BEN)
    assert kept == saved


@pytest.mark.parametrize("collection", ["", "1a", "a/b", "a b", "a" * 64])
async def test_a_collections_name_is_checked(clinic: Clinic, collection: str) -> None:
    with pytest.raises(Fault) as refused:
        await clinic.mutate("appState.put", {"collection": collection, "id": "a", "data": 1})
    assert (refused.value.code, refused.value.field) == (FaultCode.bad_arguments, "collection")


async def test_drafts_are_written_by_their_own_functions_only(clinic: Clinic) -> None:
    for name, args in (
        ("appState.put", {"collection": "drafts", "id": "a", "data": 1}),
        ("appState.remove", {"collection": "drafts", "id": "a"}),
    ):
        with pytest.raises(Fault) as refused:
            await clinic.mutate(name, args)
        assert (refused.value.code, refused.value.expected) == (FaultCode.forbidden, "drafts.save")
