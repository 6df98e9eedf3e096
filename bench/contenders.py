"""Who takes part: bonfire, and the servers that a developer would write by hand for the same work.

Each has a database, a server process, a load process and a writer of its own, so that none hears of another's writes.
"""

import fcntl
import shutil
import subprocess
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import asyncpg

from bench.child import Child
from bench.database import add_patients, bonfire_database, patients, plain_database
from bench.rows import KEY, RIVAL_WRITE, WRITE, bench_registry, filling

RIVALS = Path(__file__).parent / "rivals"


@dataclass(frozen=True)
class Contender:
    """`dialect`: what clients say (bench.dialects). `command`: the server's, to which the database's URL is added; a
    Python module, or a Node program."""

    name: str
    dialect: str
    command: tuple[str, ...]

    @property
    def is_bonfire(self) -> bool:
        return self.dialect == "bonfire"

    @property
    def write(self) -> str:
        """Its write's SQL: $1 number, $2 filling, $3 patient."""
        return WRITE if self.is_bonfire else RIVAL_WRITE


BONFIRE = Contender("bonfire", "bonfire", ("bench.node",))
NODE_PUSH = Contender("Node ws, row pushed", "push", ("node", "push"))
NODE_REQUERY = Contender("Node ws, read again", "requery", ("node", "requery"))
STARLETTE_PUSH = Contender("Starlette, row pushed", "push", ("bench.rivals.starlette_server", "push"))
STARLETTE_REQUERY = Contender("Starlette, read again", "requery", ("bench.rivals.starlette_server", "requery"))


class NoNode(Exception):
    """Node or npm is not there, or npm could not install what the rivals need."""


def install_rivals() -> None:
    """What the Node server needs, as its lock file names it; nothing when it is there. Raises `NoNode`."""
    lock = RIVALS / "package-lock.json"
    mark = RIVALS / "node_modules" / ".installed"
    if shutil.which("node") is None or shutil.which("npm") is None:
        raise NoNode("the Node server of the benchmarks needs Node 20 or newer, and npm")
    with lock.open("rb") as file:
        # One process at a time: tests run side by side.
        fcntl.flock(file, fcntl.LOCK_EX)
        wanted = file.read()
        if mark.exists() and mark.read_bytes() == wanted:
            return
        command = ["npm", "ci", "--no-audit", "--no-fund", "--loglevel=error"]
        done = subprocess.run(command, cwd=RIVALS, capture_output=True, text=True)
        if done.returncode:
            raise NoNode(f"npm could not install what the Node server of the benchmarks needs: {done.stderr[-400:]}")
        mark.write_bytes(wanted)


@dataclass
class Running:
    """A contender at work. `written` is the number of its last write."""

    contender: Contender
    url: str
    server: Child
    load: Child
    writer: asyncpg.Connection
    written: int = 0
    connected: int = 0

    @property
    def name(self) -> str:
        return self.contender.name

    async def connect(self, count: int, *, each: int = 1, keys: int = 1, at_once: bool = False) -> dict[str, float]:
        """`count` more clients that hold `each` of `keys` live queries; what bench.load says of it."""
        self.connected += count
        return await self.load.ask("connect", count=count, each=each, keys=keys, at_once=at_once)

    async def cut(self) -> None:
        self.connected = 0
        await self.load.ask("cut")

    async def write(self, text: str, key: str = KEY) -> int:
        """One write, which is the number that is returned."""
        self.written += 1
        await self.writer.execute(self.contender.write, self.written, text, key)
        return self.written


@asynccontextmanager
async def running(
    cluster: str, contenders: Sequence[Contender], *, patient_count: int = 1, rows_each: int = 0
) -> AsyncIterator[list[Running]]:
    """All of them, started and idle. There are so many patients, with so many rows each, before a server starts."""
    async with AsyncExitStack() as stack:
        yield [
            await stack.enter_async_context(_started(cluster, one, patients(patient_count), rows_each))
            for one in contenders
        ]


@asynccontextmanager
async def _started(cluster: str, contender: Contender, ids: list[str], rows_each: int) -> AsyncIterator[Running]:
    async with AsyncExitStack() as stack:
        if contender.is_bonfire:
            url = await stack.enter_async_context(bonfire_database(cluster, bench_registry()))
            await add_patients(url, ids)
        else:
            url = await stack.enter_async_context(plain_database(cluster))
        writer = await asyncpg.connect(url)
        stack.push_async_callback(writer.close)
        if not contender.is_bonfire:
            for name in ("table", contender.dialect):
                await writer.execute((RIVALS / f"{name}.sql").read_text(encoding="utf-8"))
        text = filling(300)
        rows = [(number, text, id) for number, id in enumerate((id for id in ids for _ in range(rows_each)), 1)]
        async with writer.transaction():
            await writer.executemany(contender.write, rows)
        server = await start_server(contender, url)
        stack.push_async_callback(server.stop)
        load = await Child.start("bench.load", contender.dialect, str(server.hello["port"]))
        stack.push_async_callback(load.stop)
        yield Running(contender, url, server, load, writer, written=len(rows))


async def start_server(contender: Contender, url: str) -> Child:
    module, *arguments = contender.command
    if module == "node":
        return await Child.run("node", "--expose-gc", str(RIVALS / "server.mjs"), *arguments, url)
    return await Child.start(module, *arguments, url)
