"""One script on a database of its own."""

import asyncio
import shutil
import signal
import tempfile
import threading
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
        end_on_sigterm()
        postgres = SoakPostgres(folder)
        await asyncio.to_thread(postgres.create, small_disk=any(each.kind == "fill disk" for each in script.faults))
        try:
            await prepare(postgres)
            return await run(script, postgres, folder)
        finally:
            await asyncio.to_thread(postgres.stop)

    with own_folder() as folder:
        return uvloop.run(alone(folder))


def end_on_sigterm() -> None:
    """Whoever ends this process wants its Postgres and its nodes ended too."""
    task = asyncio.current_task()
    if task is not None and threading.current_thread() is threading.main_thread():
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)


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
