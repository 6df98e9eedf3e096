"""`bonfire serve --workers N`: one port, several processes, none of which a client is bound to."""

import asyncio
import os
import re
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psycopg
import pytest
from websockets.exceptions import WebSocketException

from acceptance.conftest import Running, Start, run_bonfire
from bonfire.access.minting import mint
from bonfire.store.cluster import VERSION
from support.live_client import Held, LiveClient

pytestmark = pytest.mark.acceptance

CUT = (OSError, AssertionError, TimeoutError, WebSocketException)
"""What a connection fails by that ends, or never begins: the client library comes back after each."""

KEY = "0123456789abcdef0123456789abcdef"
TOKEN = mint(KEY, tenant="default", user="ada", name="Ada", now=datetime.now(UTC), roles=["clinician"])


@pytest.fixture
def workers(start: Start, database_url: str) -> Running:
    """Three on a migrated database."""
    assert run_bonfire("migrate", DATABASE_URL=database_url).returncode == 0
    return start("serve", "--workers", "3", BONFIRE_TOKEN_KEY=KEY, BONFIRE_HEARTBEAT_MS="200")


def address(running: Running) -> str:
    return running.url.replace("http", "ws", 1) + "/live"


@asynccontextmanager
async def client_of(running: Running) -> AsyncIterator[LiveClient]:
    client = await LiveClient.open(address(running), token=TOKEN)
    try:
        yield client
    finally:
        await client.close()


def processes(running: Running) -> list[int]:
    """Those of the supervisor."""
    pid = running.process.pid
    with open(f"/proc/{pid}/task/{pid}/children") as file:
        return [int(child) for child in file.read().split()]


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not condition():
            await asyncio.sleep(0.02)


class Screen:
    """A patient's notes on a screen that comes back, as the client library does, whenever its connection ends. It must
    show each note once, and never one that is gone."""

    def __init__(self, running: Running, patient: str) -> None:
        self._running = running
        self._patient = patient
        self._client: LiveClient | None = None
        self.texts: list[str] = []
        self.returns = 0

    async def run(self) -> None:
        held: Held | None = None
        while True:
            try:
                if held is None:
                    self._client = await LiveClient.open(address(self._running), token=TOKEN)
                    await self._client.subscribe("notes.listByPatient", "notes", patientId=self._patient)
                else:
                    self._client = await LiveClient.come_back(address(self._running), held, token=TOKEN)
                    self.returns += 1
            except CUT:
                await asyncio.sleep(0.05)
                continue
            try:
                while not self._client.closed:
                    self._note(self._client.rows("notes"))
                    await asyncio.sleep(0.01)
                held = self._client.hold()
            finally:
                await self._client.close()

    def _note(self, rows: list[dict[str, Any]]) -> None:
        texts = sorted(row["text"] for row in rows)
        assert len(texts) == len(set(texts)), "no note is doubled"
        assert set(self.texts) <= set(texts), "no note is lost"
        self.texts = texts


@asynccontextmanager
async def screens(running: Running, patient: str, count: int) -> AsyncIterator[list[Screen]]:
    shown = [Screen(running, patient) for _ in range(count)]
    tasks = [asyncio.create_task(screen.run()) for screen in shown]
    try:
        yield shown
        for task in tasks:
            assert not task.done(), task.exception()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def write(running: Running, patient: str, text: str) -> None:
    """Write until it is said to be written: with the same id, so that it is written once."""
    async with asyncio.timeout(30):
        while True:
            try:
                async with client_of(running) as client:
                    await client.mutate("notes.create", id=f"note-{text}", patientId=patient, text=text)
                    return
            except CUT:
                await asyncio.sleep(0.05)


async def new_patient(running: Running) -> str:
    async with client_of(running) as client:
        answer = await client.mutate("patients.create", given="Ada", family="Okafor")
    patient: str = answer["value"]["id"]
    return patient


async def test_each_has_its_own_stream_and_they_share_the_clients(workers: Running, database_url: str) -> None:
    assert "3 workers" in "".join(workers.log)
    with psycopg.connect(database_url) as connection:
        found = connection.execute(
            "select count(*) from pg_replication_slots where database = current_database() and temporary and active"
        ).fetchone()
    assert found == (3,)
    patient = await new_patient(workers)
    async with screens(workers, patient, 12) as shown:
        await write(workers, patient, "a")
        await until(lambda: all(screen.texts == ["a"] for screen in shown))


async def test_one_that_is_killed_is_started_again_and_nothing_is_lost(workers: Running) -> None:
    patient = await new_patient(workers)
    async with screens(workers, patient, 9) as shown:
        await write(workers, patient, "a")
        await until(lambda: all(screen.texts == ["a"] for screen in shown))
        before = processes(workers)
        assert len(before) == 3
        os.kill(before[1], signal.SIGKILL)
        await write(workers, patient, "b")
        await until(lambda: all(screen.texts == ["a", "b"] for screen in shown))
        await until(lambda: len(processes(workers)) == 3)
        assert set(before) - set(processes(workers)) == {before[1]}
        await until(lambda: "serves again" in "".join(workers.log))
        await write(workers, patient, "c")
        await until(lambda: all(screen.texts == ["a", "b", "c"] for screen in shown))


async def test_a_hang_up_replaces_all_and_nothing_is_lost(workers: Running) -> None:
    patient = await new_patient(workers)
    async with screens(workers, patient, 9) as shown:
        await until(lambda: all(screen._client is not None for screen in shown))
        before = processes(workers)
        workers.process.send_signal(signal.SIGHUP)
        written: list[str] = []
        while "all workers are replaced" not in "".join(workers.log):
            written.append(f"{len(written):03}")
            await write(workers, patient, written[-1])
            await asyncio.sleep(0.05)
        await until(lambda: all(screen.texts == written for screen in shown))
        assert not set(before) & set(processes(workers))
        assert all(screen.returns > 0 for screen in shown)


async def test_an_end_drains_all_and_leaves_nothing(workers: Running, database_url: str) -> None:
    async with client_of(workers) as client:
        children = processes(workers)
        stopping = asyncio.create_task(asyncio.to_thread(workers.stop))
        await until(lambda: client.closed)
        assert client.frames[-1]["type"] == "drain"
        assert await stopping == 0
    for pid in children:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)
    with psycopg.connect(database_url) as connection:
        found = connection.execute(
            "select count(*) from pg_replication_slots where database = current_database()"
        ).fetchone()
    assert found == (0,)


async def test_those_of_a_killed_supervisor_drain_by_themselves(workers: Running) -> None:
    children = processes(workers)
    async with client_of(workers) as client:
        workers.kill()
        await until(lambda: client.closed)
        assert client.frames[-1]["type"] == "drain"

    def gone(pid: int) -> bool:
        try:
            with open(f"/proc/{pid}/stat") as file:
                return file.read().rpartition(")")[2].split()[0] == "Z"
        except FileNotFoundError:
            return True

    await until(lambda: all(gone(pid) for pid in children))


def test_what_keeps_them_from_starting_is_said_and_ends_all(database_url: str) -> None:
    nowhere = re.sub(r"host=[^&]*", "host=%2Fnowhere", database_url)
    told = run_bonfire("serve", "--workers", "2", "--port", "0", DATABASE_URL=nowhere, BONFIRE_TOKEN_KEY=KEY)
    assert told.returncode == 1
    assert "Postgres can't be reached" in told.stderr
    assert "did not start" in told.stderr


async def test_the_embedded_database_is_the_supervisors(data_folder: Path) -> None:
    """It outlives a worker that is killed, and ends with the supervisor."""
    environment = {"DATABASE_URL": "", "BONFIRE_DATA_DIR": str(data_folder), "BONFIRE_TOKEN_KEY": KEY}
    assert run_bonfire("migrate", **environment).returncode == 0
    running = Running(["serve", "--workers", "2", "--port", "0"], environment)
    try:
        cluster = data_folder / f"postgres-{VERSION}"
        pid = (cluster / "postmaster.pid").read_text().splitlines()[0]
        workers = [child for child in processes(running) if str(child) != pid]
        os.kill(workers[0], signal.SIGKILL)
        await until(lambda: "serves again" in "".join(running.log))
        assert (cluster / "postmaster.pid").read_text().splitlines()[0] == pid
        await new_patient(running)
    finally:
        assert running.stop() == 0
    assert not (cluster / "postmaster.pid").exists()
