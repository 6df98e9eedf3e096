"""The schema of what clients hold changes under them: read models built anew, changed, or dropped; data comes and goes
meanwhile."""

import asyncio
from contextlib import AsyncExitStack
from pathlib import Path

import psycopg
import pytest

from acceptance.conftest import Start, run_bonfire
from support.live_client import Refusal
from support.pair import Pair, as_tenant, insert_notes, set_in_notes
from support.psql import psql
from support.watcher import Watcher, watching

pytestmark = pytest.mark.acceptance


async def test_read_models_are_built_anew_under_a_storm_of_writes(pair: Pair, tenant: str) -> None:
    """Their clients are given the new tables' results, and miss nothing that is written meanwhile."""
    await asyncio.to_thread(psql, pair.database_url, as_tenant(tenant) + insert_notes("p", 1, 20))
    async with AsyncExitStack() as stack:
        watchers = [await stack.enter_async_context(watching(address, tenant=tenant)) for address in pair.addresses]
        for watcher in watchers:
            await watcher.subscribe("notes.listByPatient", "notes", patientId="p")
            await watcher.subscribe("notes.listByPatient", "window", patientId="p", limit=5)
            await watcher.subscribe("timeline.list", "timeline", patientId="p")

            def agree(watcher: Watcher = watcher) -> None:
                notes = watcher.rows("notes")
                assert watcher.rows("window") == notes[:5]
                assert [row["resourceId"] for row in watcher.rows("timeline")] == [row["id"] for row in notes]
                assert [row["title"] for row in watcher.rows("timeline")] == [row["title"] for row in notes]

            watcher.always(agree)
        done = asyncio.Event()
        storm = asyncio.create_task(_storm(pair, tenant, done))
        words = ("migrate", "--rebuild", "notesByPatient", "--rebuild", "timeline")
        rebuilt = await asyncio.to_thread(run_bonfire, *words, DATABASE_URL=pair.database_url)
        assert rebuilt.returncode == 0, rebuilt.stdout
        done.set()
        last = await storm
        for watcher in watchers:
            await watcher.until_shown(lambda one: one.rows("notes")[0]["title"] == f"Note {last}")
            assert len(watcher.rows("notes")) == last
            assert [await watcher.check(name) for name in watcher.queries] == ["same"] * 3


async def _storm(pair: Pair, tenant: str, done: asyncio.Event) -> int:
    """Notes that come, a few hundred at most, and change. The number of the last one."""
    number = 20
    async with await psycopg.AsyncConnection.connect(pair.database_url, autocommit=True) as conn:
        await conn.execute(as_tenant(tenant).encode())
        while not done.is_set():
            if number < 400:
                number += 1
                await conn.execute(insert_notes("p", number, number).encode())
            await conn.execute(set_in_notes(f"id = 'n{number % 20 + 1}'", description=f"At {number}").encode())
            await asyncio.sleep(0.01)
    return number


def module(**models: str) -> str:
    """A user's module with a live query on each of these read models of a patient's tasks: name -> declaration."""
    declared = [
        f"""
clinic.live("{name}.list", ReadModel(
    name="{name}",
    {declaration}
))"""
        for name, declaration in models.items()
    ]
    return _HEAD + "\n".join(declared) + "\n"


_HEAD = """
from bonfire.clinical import ReadModel, Registry, Source, asc

PATIENT = "bonfire.patient_of('Task', r.id, r.resource)"
TITLE = "bonfire.string(r.resource -> 'description')"
STATUS = "bonfire.string(r.resource -> 'status')"

clinic = Registry()
"""


def model(columns: list[str], *, where: str = "true", key: tuple[str, ...] = ("patient",)) -> str:
    """The declaration of a read model with these columns, as Python."""
    chosen = ", ".join(f'"{column}": {column.upper()}' for column in columns)
    return f"""description="Tasks.", columns={dict.fromkeys(columns, "text")}, key={key}, order=(asc("title"),),
    sources=(Source("Task", where="{where}", select={{{chosen}}}),)"""


OPEN = "r.resource ->> 'status' = 'requested'"


def insert_task(title: str, status: str = "requested") -> str:
    return f"""
    insert into task (id, txid, resource) values ('{title}', nextval('transaction_id_seq'), '{{
      "status": "{status}", "intent": "order", "description": "{title}", "for": {{"reference": "Patient/p"}}}}');
    """


class Versions:
    """Nodes of one database that run different versions of one module."""

    def __init__(self, start: Start, folder: Path, database_url: str) -> None:
        self._start = start
        self._folder = folder
        self._database_url = database_url

    async def node(self, version: str, text: str) -> str:
        """Build the read models and start a node; the address of its live socket."""
        running = await asyncio.to_thread(self._start, "dev", self._module(version, text), "--no-demo", "--no-reload")
        return running.url.replace("http", "ws", 1) + "/live"

    async def write(self, script: str) -> None:
        await asyncio.to_thread(psql, self._database_url, script)

    def _module(self, version: str, text: str) -> str:
        file = self._folder / f"{version}.py"
        file.write_text(text)
        return str(file)


@pytest.fixture
def versions(start: Start, tmp_path: Path, database_url: str) -> Versions:
    return Versions(start, tmp_path, database_url)


async def test_read_models_change_under_a_node_of_the_old_version(versions: Versions) -> None:
    """It can't tell what is true of those that are another version's now: so it says so, whatever has changed in them,
    and their clients may ask elsewhere. What is still its own stays live."""
    first = {
        "same": model(["patient", "title"]),
        "chosen": model(["patient", "title"], where=OPEN),
        "more": model(["patient", "title"]),
        "fewer": model(["patient", "title", "status"]),
        "keyed": model(["patient", "title", "status"]),
    }
    second = {
        "same": model(["patient", "title"]),
        "chosen": model(["patient", "title"]),
        "more": model(["patient", "title", "status"]),
        "fewer": model(["patient", "title"]),
        "keyed": model(["patient", "title", "status"], key=("patient", "status")),
    }
    old = await versions.node("first", module(**first))
    async with watching(old) as client:
        for name in first:
            await client.subscribe(f"{name}.list", name, patient="p")
        await versions.write(insert_task("One") + insert_task("Two", "completed"))
        await client.until_shown(lambda one: len(one.rows("same")) == 2)
        held = client.hold()

        new = await versions.node("second", module(**second))
        await client.until(lambda: list(client.queries) == ["same"])
        ended = [frame for frame in client.frames if frame["type"] == "unsubscribed"]
        assert {(frame["code"], frame["next"]) for frame in ended} == {("unavailable", "retry")}
        for name in first.keys() - {"same"}:
            with pytest.raises(Refusal) as refused:
                await client.query(f"{name}.list", patient="p")
            assert refused.value.frame["next"] == "retry"
        await versions.write(insert_task("Three"))
        await client.until_shown(lambda one: [row["title"] for row in one.rows("same")] == ["One", "Three", "Two"])

        del held.queries["keyed"]
        back = await Watcher.come_back(new, held)
        try:
            assert {frame["type"] for frame in back.frames} & {"resumed", "subscribed"} == {"subscribed"}
            await versions.write(insert_task("Two and a half", "completed"))
            await back.until_shown(lambda one: len(one.rows("same")) == 4)
            for name in held.queries:
                assert [row["title"] for row in back.rows(name)] == ["One", "Three", "Two", "Two and a half"]
                assert await back.check(name) == "same"
            assert [row["status"] for row in back.rows("more")] == ["requested", "requested", "completed", "completed"]
        finally:
            await back.close()
