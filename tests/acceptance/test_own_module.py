"""A user's own module: functions, a read model, SQL queries; live like ours, reloaded on save."""

import asyncio
from pathlib import Path

import pytest
from websockets.exceptions import WebSocketException

from acceptance.conftest import ROOT, Running, Start
from support.live_client import LiveClient, Refusal, live_client

pytestmark = pytest.mark.acceptance


def example() -> str:
    """The module of the how-to page, as a reader copies it."""
    page = (ROOT / "docs" / "own-functions.md").read_text()
    found = page.split("```python my_clinic.py\n")[1].split("```")[0]
    assert "Registry()" in found
    return found


MORE = """

@clinic.query("tasks.greeting", depends=[])
async def greeting(ctx: QueryContext) -> str:
    return "hello"
"""


async def _until_live(running: Running, query: str) -> LiveClient:
    """The server starts again by itself; a client that asks for the new function comes back until it is there."""
    async with asyncio.timeout(60):
        while True:
            try:
                client = await LiveClient.open(running.url.replace("http", "ws") + "/live")
                try:
                    await client.query(query)
                except BaseException:
                    await client.close()
                    raise
                return client
            except (Refusal, OSError, AssertionError, TimeoutError, WebSocketException):
                await asyncio.sleep(0.1)


async def test_the_pages_module_is_live_and_starts_again_when_it_is_saved(start: Start, tmp_path: Path) -> None:
    module = tmp_path / "my_clinic.py"
    module.write_text(example())
    running = start("dev", str(module), "--no-demo", port=_free_port())
    async with live_client(running.url) as client:
        patient = (await client.mutate("patients.create", given="Ada", family="Okafor"))["value"]["id"]
        tasks = await client.subscribe("tasks.openByPatient", patientId=patient)
        counts = await client.subscribe("tasks.countByPatient")
        added = await client.mutate("tasks.add", patientId=patient, title="Call back")
        assert "tasksByPatient" in added["views"]
        await client.until(lambda: [row["title"] for row in client.rows(tasks)] == ["Call back"])
        await client.until(lambda: [row["open"] for row in client.rows(counts)] == [1])
        await client.mutate("tasks.complete", taskId=added["value"]["id"])
        await client.until(lambda: client.rows(tasks) == [])

    module.write_text(example() + "\nthis is no Python\n")
    async with asyncio.timeout(30):
        while not any("Not reloaded" in line and "my_clinic.py" in line for line in running.log):
            await asyncio.sleep(0.05)
    async with live_client(running.url) as client:
        assert await client.query("patients.list"), "the old functions go on"

    module.write_text(example().replace("having count", "having no_count"))
    async with asyncio.timeout(60):
        while not any("starts again when you save" in line for line in running.log):
            await asyncio.sleep(0.05)

    module.write_text(example() + MORE)
    client = await _until_live(running, "tasks.greeting")
    assert await client.query("tasks.greeting") == "hello"
    assert [row["family"] for row in await client.query("patients.list")] == ["Okafor"]
    await client.close()


def _free_port() -> int:
    """A restarted server comes back on the same port, so it can't be any free one."""
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
