"""One script on a database of its own."""

import asyncio
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import uvloop

from soak.postgres import SoakPostgres
from soak.run import Outcome, prepare, run
from soak.script import Script


def attempt(script: Script) -> Outcome:
    """One run on a fresh database."""

    async def alone(folder: Path) -> Outcome:
        postgres = SoakPostgres(folder)
        await asyncio.to_thread(postgres.create, small_disk=any(each.kind == "fill disk" for each in script.faults))
        try:
            await prepare(postgres)
            return await run(script, postgres, folder)
        finally:
            await asyncio.to_thread(postgres.stop)

    with own_folder() as folder:
        return uvloop.run(alone(folder))


@contextmanager
def own_folder() -> Iterator[Path]:
    """A new folder that a Postgres may have its data in."""
    folder = Path(tempfile.mkdtemp(prefix="soak-"))
    # Under root, Postgres runs as another account, which must get through.
    folder.chmod(0o711)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
