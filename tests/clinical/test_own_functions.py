"""The how-to page's module, as a reader copies it: it loads, fits the database, and does what the page says."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from bonfire.clinical.builtin import builtin_registry
from bonfire.clinical.load import ModuleLoader
from bonfire.store.reach import EVERYTHING
from bonfire.store.readmodels import install
from bonfire_protocol.faults import Fault, FaultCode
from support.clinic import SOUTH, Clinic

PAGE = Path(__file__).resolve().parents[2] / "docs" / "own-functions.md"


@pytest.fixture
def module(tmp_path: Path) -> Iterator[Path]:
    path, modules = list(sys.path), set(sys.modules)
    file = tmp_path / "my_clinic.py"
    file.write_text(PAGE.read_text().split("```python my_clinic.py\n")[1].split("```")[0])
    yield file
    sys.path[:] = path
    for name in set(sys.modules) - modules:
        del sys.modules[name]


@pytest.fixture
async def own(clinic: Clinic, module: Path) -> Clinic:
    clinic.registry = ModuleLoader(module).load(builtin_registry())
    async with clinic.database.owner() as conn:
        assert await install(conn, clinic.registry.models) == ["tasksByPatient"]
    async with clinic.database.transaction("default", reach=EVERYTHING) as conn:
        await clinic.registry.prepare(conn)
    return clinic


async def test_the_pages_module_does_what_the_page_says(own: Clinic) -> None:
    ada, bea = await own.patient("Ada"), await own.patient("Bea")
    first = await own.outcome("tasks.add", {"patientId": ada, "title": "Call back", "due": "2026-03-09"}, patient=ada)
    assert first.views == ("tasksByPatient",)
    await own.mutate("tasks.add", {"patientId": ada, "title": "Urgent", "due": "2026-03-03"})
    await own.mutate("tasks.add", {"patientId": bea, "title": "Some day"})
    open_tasks = await own.query("tasks.openByPatient", {"patientId": ada})
    assert [task["title"] for task in open_tasks] == ["Urgent", "Call back"]
    assert await own.query("tasks.countByPatient") == [
        {"id": ada, "patientName": "Ada Lovelace", "open": 2},
        {"id": bea, "patientName": "Bea Lovelace", "open": 1},
    ]
    assert [row["id"] for row in await own.query("tasks.countByPatient", {"tasks": 2})] == [ada]
    assert await own.query("tasks.countByPatient", by=SOUTH) == []

    task = open_tasks[0]
    done = await own.mutate("tasks.complete", {"taskId": task["id"]}, patient=ada, version=task["version"])
    assert done["done"] is True
    assert await own.query("tasks.get", {"patientId": ada, "taskId": task["id"]}) == done
    assert await own.query("tasks.get", {"patientId": bea, "taskId": task["id"]}) is None
    assert len(await own.query("tasks.openByPatient", {"patientId": ada})) == 1
    with pytest.raises(Fault) as refused:
        await own.mutate("tasks.complete", {"taskId": task["id"]}, version=task["version"])
    assert refused.value.code is FaultCode.version_conflict
    assert "status" in refused.value.message
