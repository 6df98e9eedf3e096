"""Coming back after a cut (promise L7), to any node: only what was missed comes, or all, where that is not known."""

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any

import psycopg
import pytest

from acceptance.conftest import Running, Start
from bonfire_protocol.values import parse_position
from support.live_client import Held, LiveClient, live_client
from support.psql import psql

pytestmark = pytest.mark.acceptance


def address(running: Running) -> str:
    return running.url.replace("http", "ws", 1) + "/live"


@pytest.fixture(params=["wal", "listen"])
def source(request: pytest.FixtureRequest) -> str:
    kind: str = request.param
    return kind


@pytest.fixture
def nodes(start: Start, source: str) -> list[Running]:
    """Two nodes on one database."""
    return [start(BONFIRE_CHANGE_SOURCE=source, BONFIRE_HEARTBEAT_MS="200") for _ in range(2)]


@pytest.fixture
async def writer(nodes: list[Running]) -> AsyncIterator[LiveClient]:
    """A client of the second node, which stays."""
    async with live_client(nodes[1].url) as client:
        yield client


async def new_patient(client: LiveClient, family: str = "Okafor") -> str:
    answer = await client.mutate("patients.create", given="Ada", family=family)
    patient: str = answer["value"]["id"]
    return patient


async def write_notes(client: LiveClient, patient: str, *texts: str) -> list[str]:
    """The ids of the notes."""
    answers = [await client.mutate("notes.create", patientId=patient, text=text) for text in texts]
    return [answer["value"]["id"] for answer in answers]


async def lose(client: LiveClient, at: int = 0) -> Held:
    """Cut a client off once it has come to this position. What it held."""
    await client.until(lambda: client.position >= at)
    client.cut()
    async with asyncio.timeout(5):
        while not client.closed:
            await asyncio.sleep(0.005)
    return client.hold()


def first_frames(client: LiveClient) -> dict[str, dict[str, Any]]:
    """How each subscription came, by its name."""
    return {frame["id"]: frame for frame in client.frames if frame["type"] in ("subscribed", "resumed")}


async def shows_the_same_as_a_fresh_one(running: Running, client: LiveClient) -> bool:
    """Whether all that the client shows is what one sees who comes for the first time."""
    async with live_client(running.url) as fresh:
        for name, (query, args) in client.hold().queries.items():
            await fresh.subscribe(query, name, **args)
        await client.until(lambda: client.position >= fresh.position)
        await fresh.until(lambda: fresh.position >= client.position)
        return all(client.rows(name) == fresh.rows(name) for name in client.queries)


@pytest.mark.parametrize("other", [0, 1], ids=["same-node", "other-node"])
async def test_only_what_was_missed_comes(
    nodes: list[Running], writer: LiveClient, database_url: str, other: int
) -> None:
    patient = await new_patient(writer)
    elsewhere = await new_patient(writer, "Banda")
    ids = await write_notes(writer, patient, "To be changed.", "To be deleted.", "To be moved.")
    psql(
        database_url,
        "insert into documentreference (id, txid, status, resource)"
        " select 'copy-' || n, nextval('transaction_id_seq'), 'created', resource"
        f" from documentreference, generate_series(1, 300) n where id = '{ids[0]}'",
    )
    async with AsyncExitStack() as stack:
        client = await LiveClient.open(address(nodes[0]))
        stack.push_async_callback(client.close)
        await client.subscribe("notes.listByPatient", "notes", patientId=patient)
        await client.subscribe("timeline.list", "timeline", patientId=patient)
        await client.subscribe("notes.listByPatient", "untouched", patientId="nobody")
        await client.subscribe("patients.get", "patient", patientId=patient)
        assert len(client.rows("notes")) == 303
        held = await lose(client, writer.position)

        changed, deleted, moved = ids
        await write_notes(writer, patient, "Written meanwhile.")
        await writer.mutate("notes.edit", noteId=changed, text="Changed.")
        psql(database_url, f"delete from documentreference where id = '{deleted}'")
        psql(
            database_url,
            "update documentreference set resource = jsonb_set(resource, '{subject,reference}',"
            f" '\"Patient/{elsewhere}\"') where id = '{moved}'",
        )

        back = await LiveClient.come_back(address(nodes[other]), held)
        stack.push_async_callback(back.close)
        came = first_frames(back)
        assert {name: frame["type"] for name, frame in came.items()} == dict.fromkeys(held.queries, "resumed")
        assert {deleted, moved} <= set(came["notes"]["remove"])
        assert {put["row"]["text"] for put in came["notes"]["put"]} == {"Written meanwhile.", "Changed."}
        assert came["notes"]["length"] == 302
        assert {name: came["untouched"].get(name) for name in ("remove", "put")} == {"remove": None, "put": None}
        assert {name: came["patient"].get(name) for name in ("remove", "put")} == {"remove": None, "put": None}
        assert back.size * 10 < client.size
        assert await shows_the_same_as_a_fresh_one(nodes[1 - other], back)
        assert [await back.check(name) for name in ("notes", "timeline", "patient")] == ["same"] * 3


async def test_a_result_that_was_read_again_or_has_mostly_changed_comes_whole(
    nodes: list[Running], writer: LiveClient
) -> None:
    """An app query is one value to the server: changed, or not."""
    patient = await new_patient(writer)
    async with live_client(nodes[0].url) as client:
        await client.subscribe("patients.get", "patient", patientId=patient)
        await client.subscribe("notes.listByPatient", "notes", patientId=patient)
        held = await lose(client)
    await writer.mutate("patients.update", patientId=patient, family="Nwosu")
    await write_notes(writer, patient, *(f"Note {number}" for number in range(12)))
    back = await LiveClient.come_back(address(nodes[1]), held)
    try:
        assert {name: frame["type"] for name, frame in first_frames(back).items()} == {
            "patient": "subscribed",
            "notes": "subscribed",
        }
        assert back.rows("patient")[0]["family"] == "Nwosu"
        assert len(back.rows("notes")) == 12
    finally:
        await back.close()


async def test_a_window_is_cut_off_at_its_end(nodes: list[Running], writer: LiveClient) -> None:
    """What was pushed out of it is not named: the client lets it go by the length."""
    patient = await new_patient(writer)
    await write_notes(writer, patient, *(f"Old {number}" for number in range(30)))
    async with live_client(nodes[0].url) as client:
        await client.subscribe("notes.listByPatient", "notes", patientId=patient, limit=20)
        held = await lose(client, writer.position)
    await write_notes(writer, patient, "New 0", "New 1")
    back = await LiveClient.come_back(address(nodes[1]), held)
    try:
        (frame,) = first_frames(back).values()
        assert (frame["type"], frame["length"], frame["more"]) == ("resumed", 20, True)
        assert "remove" not in frame
        assert [put["row"]["text"] for put in frame["put"]][:2] == ["New 1", "New 0"]
        assert len(frame["put"]) <= 4
        assert await shows_the_same_as_a_fresh_one(nodes[0], back)
    finally:
        await back.close()


async def test_coming_back_again_and_again_in_a_storm_of_writes(
    nodes: list[Running], writer: LiveClient, database_url: str
) -> None:
    """To one node and to the other, cut off at any moment, also before all has come again."""
    chance = random.Random(11)
    patients = [await new_patient(writer, f"Family {number}") for number in range(2)]
    async with live_client(nodes[0].url) as client:
        for number, patient in enumerate(patients):
            await client.subscribe("notes.listByPatient", f"notes {number}", patientId=patient, limit=15)
            await client.subscribe("timeline.list", f"timeline {number}", patientId=patient)
        await client.subscribe("patients.list", "patients")
        held = await lose(client)
    storm = asyncio.create_task(_storm(writer, patients, database_url, chance))
    came: list[str] = []
    client = await LiveClient.come_back(address(nodes[1]), held)
    try:
        for turn in range(25):
            await asyncio.sleep(chance.uniform(0, 0.12))
            held = await lose(client)
            client = await LiveClient.come_back(address(nodes[turn % 2]), held)
            came += [frame["type"] for frame in first_frames(client).values()]
        last = await storm
        await client.until(lambda: client.position >= last)
        assert came.count("resumed") > 10
        for running in nodes:
            assert await shows_the_same_as_a_fresh_one(running, client)
    finally:
        storm.cancel()
        await client.close()


async def _storm(writer: LiveClient, patients: list[str], database_url: str, chance: random.Random) -> int:
    """Notes that come, change, move and go, one after the other. The position of the last one."""
    notes: list[str] = []
    async with await psycopg.AsyncConnection.connect(database_url, autocommit=True) as conn:
        for number in range(250):
            match chance.choice(["create", "create", "change", "move", "delete", "reorder"]):
                case "create":
                    notes += await write_notes(writer, chance.choice(patients), f"Note {number}")
                    continue
                case _ if not notes:
                    continue
                case "change":
                    statement = "set resource = jsonb_set(resource, '{description}', to_jsonb(%(text)s::text))"
                case "move":
                    statement = "set resource = jsonb_set(resource, '{subject,reference}', to_jsonb(%(patient)s::text))"
                case _:
                    statement = "set resource = jsonb_set(resource, '{date}', to_jsonb(%(date)s::text))"
            if number % 7 == 0:
                await conn.execute("delete from documentreference where id = %s", (notes.pop(),))
                continue
            await conn.execute(
                f"update documentreference {statement} where id = %(id)s",
                {
                    "id": chance.choice(notes),
                    "text": f"Text {number}",
                    "patient": f"Patient/{chance.choice(patients)}",
                    "date": f"2026-0{chance.randint(1, 9)}-01T00:00:00Z",
                },
            )
    last = await writer.mutate("patients.create", given="The", family="End")
    return parse_position(last["position"])


async def test_a_node_that_was_killed_is_resumed_from_on_another(nodes: list[Running], writer: LiveClient) -> None:
    patient = await new_patient(writer)
    await write_notes(writer, patient, *(f"Old {number}" for number in range(10)))
    client = await LiveClient.open(address(nodes[0]))
    try:
        await client.subscribe("notes.listByPatient", "notes", patientId=patient)
        nodes[0].kill()
        held = await lose(client)
    finally:
        await client.close()
    await write_notes(writer, patient, "New.")
    back = await LiveClient.come_back(address(nodes[1]), held)
    try:
        (frame,) = first_frames(back).values()
        assert (frame["type"], [put["row"]["text"] for put in frame["put"]]) == ("resumed", ["New."])
        assert len(back.rows("notes")) == 11
    finally:
        await back.close()


async def held_notes(running: Running, patient: str, at: int) -> Held:
    """What a client holds that was cut off from this node, at this position or later."""
    async with live_client(running.url) as client:
        await client.subscribe("notes.listByPatient", "notes", patientId=patient)
        return await lose(client, at)


async def test_a_server_that_was_started_anew_gives_everything_whole(
    start: Start, source: str, database_url: str
) -> None:
    """It knows nothing of what happened while no node was there."""
    running = start(BONFIRE_CHANGE_SOURCE=source)
    async with live_client(running.url) as writer:
        patient = await new_patient(writer)
        (note,) = await write_notes(writer, patient, "One.")
    held = await held_notes(running, patient, 0)
    running.kill()
    psql(
        database_url,
        f"update documentreference set resource = resource || '{{\"description\": \"A title\"}}' where id = '{note}'",
    )
    running = await asyncio.to_thread(start, port=running.port, BONFIRE_CHANGE_SOURCE=source)
    back = await LiveClient.come_back(address(running), held)
    try:
        (frame,) = first_frames(back).values()
        assert (frame["type"], [row["title"] for row in frame["rows"]]) == ("subscribed", ["A title"])
    finally:
        await back.close()


@pytest.mark.parametrize(
    ("query", "how"),
    [
        ("select pg_terminate_backend(pid) from pg_stat_replication", "wal"),
        ("select pg_terminate_backend(pid) from pg_stat_activity where pid <> pg_backend_pid()", "listen"),
    ],
)
async def test_what_the_stream_itself_may_have_missed_is_not_resumed_over(
    start: Start, database_url: str, query: str, how: str
) -> None:
    """The WAL's place is lost with its slot. The outbox keeps it."""
    running = start(BONFIRE_CHANGE_SOURCE=how, BONFIRE_HEARTBEAT_MS="200")
    async with live_client(running.url) as watcher:
        patient = await new_patient(watcher)
        await write_notes(watcher, patient, "One.")
        held = await held_notes(running, patient, watcher.position)
        psql(database_url, query)
        await watcher.until(lambda: watcher.stale)
        await watcher.until(lambda: not watcher.stale)
        await _retried(lambda: write_notes(watcher, patient, "Two."))
        back = await LiveClient.come_back(address(running), held)
        try:
            (frame,) = first_frames(back).values()
            assert frame["type"] == {"wal": "subscribed", "listen": "resumed"}[how]
            assert [row["text"] for row in back.rows("notes")] == ["Two.", "One."]
        finally:
            await back.close()


async def _retried(action: Callable[[], Awaitable[object]]) -> None:
    """A connection of the server's pool may have been cut, too."""
    async with asyncio.timeout(10):
        while True:
            try:
                await action()
                return
            except Exception:
                await asyncio.sleep(0.05)


async def test_between_the_two_kinds_of_nodes_everything_comes_whole(start: Start) -> None:
    """They give one commit different positions."""
    by_wal, by_listen = [start(BONFIRE_CHANGE_SOURCE=kind) for kind in ("wal", "listen")]
    async with live_client(by_wal.url) as writer:
        patient = await new_patient(writer)
        await write_notes(writer, patient, "One.")
        held = await held_notes(by_wal, patient, writer.position)
        await write_notes(writer, patient, "Two.")
    back = await LiveClient.come_back(address(by_listen), held)
    try:
        (frame,) = first_frames(back).values()
        assert frame["type"] == "subscribed"
        assert [row["text"] for row in back.rows("notes")] == ["Two.", "One."]
    finally:
        await back.close()
