"""The server killed, Postgres restarted: what was answered is there, once; who was connected misses nothing."""

import asyncio
import contextlib
import os
import random
import signal
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import psycopg
import pytest
from websockets.exceptions import ConnectionClosed, InvalidHandshake

from acceptance.conftest import Running, Start
from bonfire.store.embedded import EmbeddedPostgres
from support.live_client import LiveClient, Refusal, live_client

pytestmark = pytest.mark.acceptance

LOST = (ConnectionClosed, InvalidHandshake, OSError, AssertionError, TimeoutError)
"""What a client sees of a server that is gone."""


async def persistent(url: str, frames: list[dict[str, object]], done: dict[str, dict[str, object]]) -> None:
    """A client that sends each mutation until it is answered, over as many connections as it takes."""
    waiting = list(frames)
    while waiting:
        try:
            async with live_client(url) as client:
                while waiting:
                    answer = await client._ask(waiting[0])
                    done[str(waiting[0]["id"])] = answer
                    waiting.pop(0)
        except Refusal as refusal:
            if refusal.frame["next"] == "stop":
                raise
            await asyncio.sleep(0.05)
        except LOST:
            await asyncio.sleep(0.05)


def notes_to_write(patient: str, count: int, writer: int) -> list[dict[str, object]]:
    return [
        {
            "type": "mutate",
            "id": str(uuid4()),
            "mutation": "notes.create",
            "args": {"patientId": patient, "text": f"{writer}/{number}"},
        }
        for number in range(count)
    ]


async def test_kill_minus_nine_in_the_middle_of_writes(start: Start, database_url: str) -> None:
    """What was answered is there, and nothing is there twice, though the clients sent again what was not answered."""
    running = start()
    port = running.port
    async with live_client(running.url) as client:
        patient = (await client.mutate("patients.create", given="Ada", family="Okafor"))["value"]["id"]
    frames = [notes_to_write(patient, 60, writer) for writer in range(4)]
    done: dict[str, dict[str, object]] = {}
    writing = [asyncio.create_task(persistent(running.url, one, done)) for one in frames]
    for _ in range(3):
        before = len(done)
        async with asyncio.timeout(30):
            while len(done) < min(before + 30, 239):
                await asyncio.sleep(0.005)
        running.kill()
        running = await asyncio.to_thread(start, port=port)
    await asyncio.gather(*writing)
    assert len(done) == 240
    async with live_client(running.url) as client:
        shown = await client.query("notes.listByPatient", patientId=patient)
    assert sorted(note["text"] for note in shown) == sorted(f"{writer}/{n}" for writer in range(4) for n in range(60))
    answered = {str(answer["value"]["id"]) for answer in done.values()}  # type: ignore[index]  # a note
    assert answered == {note["id"] for note in shown}


@pytest.fixture
def postgres(tmp_path: Path) -> Iterator[EmbeddedPostgres]:
    """A Postgres of this test's own, to be stopped and started at will."""
    embedded = EmbeddedPostgres()
    embedded.start(tmp_path / "data")
    yield embedded
    embedded.stop()


def postmaster(folder: Path) -> int:
    return int(next(folder.glob("postgres-*/postmaster.pid")).read_text().splitlines()[0])


@pytest.mark.parametrize("source", ["wal", "listen"])
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL], ids=["fast-stop", "kill-9"])
async def test_postgres_restarted_under_live_clients(
    start: Start, tmp_path: Path, postgres: EmbeddedPostgres, source: str, how: signal.Signals
) -> None:
    """They recover on the same socket, with no reload, and miss nothing, not even what no stream told of."""
    folder = tmp_path / "data"
    running = start(
        DATABASE_URL="", BONFIRE_DATA_DIR=str(folder), BONFIRE_CHANGE_SOURCE=source, BONFIRE_HEARTBEAT_MS="200"
    )
    async with live_client(running.url) as client, live_client(running.url) as watcher:
        patient = (await client.mutate("patients.create", given="Ada", family="Okafor"))["value"]["id"]
        notes = await watcher.subscribe("notes.listByPatient", patientId=patient)
        one = await watcher.subscribe("patients.get", patientId=patient)
        await client.mutate("notes.create", patientId=patient, text="Before.")
        await watcher.until(lambda: len(watcher.rows(notes)) == 1)

        os.kill(postmaster(folder), how)
        await watcher.until(lambda: watcher.stale)
        again = EmbeddedPostgres()
        url = await asyncio.to_thread(_start_again, again, folder)
        with psycopg.connect(url, autocommit=True) as conn:
            conn.execute('update patient set resource = resource || \'{"gender": "other"}\' where id = %s', (patient,))
        await _until_it_works(client, "notes.create", patientId=patient, text="After.")
        await watcher.until(lambda: [note["text"] for note in watcher.rows(notes)] == ["After.", "Before."], 30)
        await watcher.until(lambda: watcher.rows(one)[0]["gender"] == "other", 30)
        await watcher.until(lambda: not watcher.stale)
        again.stop()


def _start_again(embedded: EmbeddedPostgres, folder: Path) -> str:
    return embedded.start(folder)


async def _until_it_works(client: LiveClient, mutation: str, **args: object) -> None:
    """A client keeps its mutation, with its id, until it is answered."""
    mutation_id = str(uuid4())
    async with asyncio.timeout(40):
        while True:
            try:
                await client.mutate(mutation, id=mutation_id, **args)
                return
            except Refusal as refusal:
                if refusal.frame["next"] != "retry":
                    raise
                await asyncio.sleep(0.1)


async def test_backends_killed_at_random_lose_nothing(server: Running, database_url: str) -> None:
    """Any backend, the WAL sender among them, may be cut at any moment."""
    async with live_client(server.url) as client, live_client(server.url) as watcher:
        patient = (await client.mutate("patients.create", given="Ada", family="Okafor"))["value"]["id"]
        notes = await watcher.subscribe("notes.listByPatient", patientId=patient)
        done: dict[str, dict[str, object]] = {}
        frames = notes_to_write(patient, 150, 0)
        writing = asyncio.create_task(persistent(server.url, frames, done))
        chance = random.Random(7)
        with psycopg.connect(database_url, autocommit=True) as conn:
            while not writing.done():
                await asyncio.sleep(chance.uniform(0.02, 0.15))
                with contextlib.suppress(psycopg.Error):
                    conn.execute(
                        "select pg_terminate_backend(pid) from (select pid from pg_stat_activity"
                        " where pid <> pg_backend_pid() and datname = current_database()"
                        " order by random() limit 1) as victim"
                    )
        await writing
        wanted = sorted(f"0/{number}" for number in range(150))
        await watcher.until(lambda: sorted(note["text"] for note in watcher.rows(notes)) == wanted, 30)
