"""What the tests of change sources share: a sink that remembers, and a network that can be stopped."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Literal
from urllib.parse import parse_qs, quote, urlsplit, urlunsplit

import asyncpg

from bonfire.changes.listen import ListenSource
from bonfire.changes.replication import ReplicationSource
from bonfire.changes.source import ChangeSource, SourceKind
from bonfire.changes.timing import Timing
from bonfire.engine.commit import Commit

PATIENCE = 20.0
"""Seconds after which what a test waits for is taken not to come."""

Event = tuple[Literal["commit", "watermark", "down", "up", "gap"], object]


class Recorder:
    """A sink that remembers everything, and checks what holds of every source's deliveries."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.commits: list[Commit] = []
        self.position = 0
        self.is_up = True
        self.closed = False
        self._changed = asyncio.Event()

    def commit(self, commit: Commit) -> None:
        assert self.is_up
        assert commit.position > self.position, "a commit lies behind what was said to be delivered"
        assert commit.messages or commit.bulk
        self.position = commit.position
        self.commits.append(commit)
        self._note("commit", commit)

    def watermark(self, position: int, age: float) -> None:
        assert self.is_up
        assert age >= 0
        assert position >= self.position
        self.position = position
        self._note("watermark", position)

    def down(self, reason: str) -> None:
        assert self.is_up
        self.is_up = False
        self._note("down", reason)

    def up(self, position: int) -> None:
        assert position >= self.position
        self.is_up = True
        self.position = position
        self._note("up", position)

    def gap(self, reason: str) -> None:
        self._note("gap", reason)

    def seen(self, kind: str) -> int:
        return sum(event[0] == kind for event in self.events)

    @property
    def tenants(self) -> list[str | None]:
        """What the messages say, in order: the tests put everything into `tenant`."""
        return [message.tenant for commit in self.commits for message in commit.messages]

    async def until_commits(self, count: int) -> None:
        await self.until(lambda: len(self.commits) >= count)

    async def until_position(self, position: int) -> None:
        await self.until(lambda: self.position >= position)

    async def until_told(self, tenant: str) -> None:
        await self.until(lambda: tenant in self.tenants)

    async def until_cut_and_up_again(self, downs: int) -> None:
        """Until there have been more cuts than `downs`, and the last is over."""
        await self.until(lambda: self.seen("down") > downs and self.is_up)

    async def until(self, condition: Callable[[], bool]) -> None:
        """Until `condition` holds, looked at after each delivery."""
        async with asyncio.timeout(PATIENCE):
            while not condition():
                self._changed.clear()
                await self._changed.wait()

    def _note(self, kind: Literal["commit", "watermark", "down", "up", "gap"], what: object) -> None:
        assert not self.closed, "delivered after stop"
        self.events.append((kind, what))
        self._changed.set()


def make_source(kind: SourceKind, url: str, timing: Timing) -> ChangeSource:
    match kind:
        case "wal":
            return ReplicationSource(url, timing)
        case "listen":
            return ListenSource(url, timing)


@asynccontextmanager
async def started(source: ChangeSource) -> AsyncIterator[Recorder]:
    """The source, started with a recorder, and stopped in the end."""
    recorder = Recorder()
    recorder.position = await source.start(recorder)
    try:
        yield recorder
    finally:
        await source.stop()
        recorder.closed = True


@asynccontextmanager
async def connected(url: str) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(url)
    try:
        yield connection
    finally:
        await connection.close()


async def slots(connection: asyncpg.Connection) -> int:
    """How many replication slots the connection's database has."""
    return int(
        await connection.fetchval("select count(*) from pg_replication_slots where database = current_database()")
    )


async def emit(connection: asyncpg.Connection, *tenants: str) -> int:
    """One transaction that tells these; its xid."""
    async with connection.transaction():
        for tenant in tenants:
            await connection.execute("select bonfire.emit($1)", json.dumps({"tenant": tenant}))
        return int(await connection.fetchval("select pg_current_xact_id()::text::bigint"))


async def tend(connection: asyncpg.Connection, arguments: str) -> None:
    """Clean the outbox for certain: whoever comes while another cleans leaves it to that one."""
    async with connection.transaction():
        await connection.execute("select pg_advisory_xact_lock(1651469926, 2)")
        await connection.execute(f"select bonfire.tend_outbox({arguments})")


class Wire:
    """A unix socket in front of the database's, whose traffic can be held up without closing anything."""

    def __init__(self, folder: Path, url: str) -> None:
        parts = urlsplit(url)
        (host,) = parse_qs(parts.query)["host"]
        self.url = urlunsplit(parts._replace(query=f"host={quote(str(folder), safe='')}"))
        self._target = f"{host}/.s.PGSQL.5432"
        self._path = folder / ".s.PGSQL.5432"
        self._flowing = asyncio.Event()
        self._flowing.set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None

    def lead_to(self, url: str) -> None:
        """Lead whoever connects from now on to another database."""
        (host,) = parse_qs(urlsplit(url).query)["host"]
        self._target = f"{host}/.s.PGSQL.5432"

    def stop(self) -> None:
        self._flowing.clear()

    def go_on(self) -> None:
        self._flowing.set()

    async def __aenter__(self) -> "Wire":
        self._server = await asyncio.start_unix_server(self._accept, self._path)
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._server.wait_closed()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_unix_connection(self._target)
        for one, other in ((reader, far_writer), (far_reader, writer)):
            task = asyncio.create_task(self._carry(one, other))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(65536):
                await self._flowing.wait()
                writer.write(data)
                await writer.drain()
            await self._flowing.wait()
        except ConnectionError:
            pass
        finally:
            writer.close()
