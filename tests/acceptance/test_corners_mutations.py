"""Mutations that meet: several of one client in flight, and one id on two nodes at once (promises L1, L5, L6)."""

import asyncio
from typing import Any

import pytest

from bonfire_protocol.values import parse_position
from support.live_client import LiveClient, Refusal
from support.pair import Pair
from support.psql import psql
from support.watcher import watching

pytestmark = pytest.mark.acceptance


async def new_patient(client: LiveClient) -> str:
    answer = await client.mutate("patients.create", given="Ada", family="Okafor")
    patient: str = answer["value"]["id"]
    return patient


def mutation(id: str, name: str, **args: Any) -> dict[str, Any]:
    return {"type": "mutate", "id": id, "mutation": name, "args": args}


async def test_mutations_in_flight_are_answered_and_shown_in_order(pair: Pair, tenant: str) -> None:
    """Each answer comes before the transition that shows what it did, and after those of all before it. A refused one
    among them holds nobody up."""
    async with (
        watching(pair.addresses[0], tenant=tenant) as client,
        watching(pair.addresses[1], tenant=tenant) as other,
    ):
        patient = await new_patient(client)
        for one in (client, other):
            await one.subscribe("notes.listByPatient", "notes", patientId=patient)
            await one.subscribe("patients.get", "patient", patientId=patient)
        before = len(client.frames)
        ids = [f"{tenant}-{number}" for number in range(30)]
        for number, id in enumerate(ids):
            if number % 10 == 5:
                await client.send(mutation(id, "patients.update", patientId=patient, family=f"Family {number:02}"))
            elif number % 10 == 7:
                await client.send(mutation(id, "notes.create", patientId="nobody", text="To be refused."))
            else:
                await client.send(mutation(id, "notes.create", patientId=patient, text=f"Note {number:02}"))
        await client.until(lambda: all(id in client._answers for id in ids))
        positions = [parse_position(client._answers[id]["position"]) for n, id in enumerate(ids) if n % 10 != 7]
        assert positions == sorted(set(positions))
        assert [client._answers[id]["type"] for id in ids[7::10]] == ["refused"] * 3

        for one in (client, other):
            await one.until_at(positions[-1])
            written = [f"Note {number:02}" for number in range(29, -1, -1) if number % 10 not in (5, 7)]
            assert [row["text"] for row in one.rows("notes")] == written
            assert one.rows("patient")[0]["family"] == "Family 25"
        story = client.frames[before:]
        assert [frame["id"] for frame in story if frame["type"] in ("committed", "refused")] == ids
        shown = 0
        for frame in story:
            if frame["type"] in ("transition", "watermark"):
                shown = parse_position(frame["position"])
            elif frame["type"] == "committed":
                assert shown < parse_position(frame["position"]), "it is answered before it is shown"


async def test_one_id_sent_to_two_nodes_at_once_is_done_once(pair: Pair, tenant: str) -> None:
    """By several clients of each, and again when it has long been done: the same answer to all of them."""
    async with (
        watching(pair.addresses[0], tenant=tenant) as first,
        watching(pair.addresses[1], tenant=tenant) as second,
        watching(pair.addresses[1], tenant=tenant) as third,
    ):
        clients = (first, second, third)
        patient = await new_patient(first)
        for client in clients:
            await client.subscribe("notes.listByPatient", "notes", patientId=patient)
        for number in range(25):
            frame = mutation(f"{tenant}-{number}", "notes.create", patientId=patient, text=f"Note {number}")
            answers = await asyncio.gather(*(client._ask(frame) for client in clients))
            assert len({answer["value"]["id"] for answer in answers}) == 1
            assert [answer["value"] for answer in answers] == [answers[0]["value"]] * 3
            assert [answer["views"] for answer in answers] == [answers[0]["views"]] * 3
        again = await asyncio.gather(
            *(
                client._ask(mutation(f"{tenant}-0", "notes.create", patientId=patient, text="Note 0"))
                for client in clients
            )
        )
        assert len({answer["value"]["id"] for answer in again}) == 1
        for client in clients:
            await client.until_shown(lambda one: len(one.rows("notes")) == 25)
            with pytest.raises(Refusal) as refused:
                await client._ask(mutation(f"{tenant}-1", "notes.create", patientId=patient, text="Other words."))
            assert refused.value.frame["code"] == "mutation_id_reused"
    count = f"select count(*), count(distinct id) from documentreference where tenant = '{tenant}'"
    assert await asyncio.to_thread(psql, pair.database_url, count) == "25|25"


async def test_two_nodes_write_one_record_at_once(pair: Pair, tenant: str) -> None:
    """With the version that both have on the screen: one of them is done, the other one is told to look again."""
    async with (
        watching(pair.addresses[0], tenant=tenant) as first,
        watching(pair.addresses[1], tenant=tenant) as second,
    ):
        patient = await new_patient(first)
        note = (await first.mutate("notes.create", patientId=patient, text="As it was."))["value"]
        for turn in range(10):
            asked = [
                {
                    **mutation(f"{tenant}-{turn}-{n}", "notes.edit", noteId=note["id"], text=f"By {n}, {turn}"),
                    "version": note["version"],
                }
                for n in range(2)
            ]
            outcomes = await asyncio.gather(
                *(client._ask(frame) for client, frame in zip((first, second), asked, strict=True)),
                return_exceptions=True,
            )
            (done,) = [outcome for outcome in outcomes if isinstance(outcome, dict)]
            (refused,) = [outcome for outcome in outcomes if isinstance(outcome, Refusal)]
            assert (refused.frame["code"], refused.frame["next"]) == ("version_conflict", "resync")
            note = done["value"]
