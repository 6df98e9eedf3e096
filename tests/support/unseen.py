"""Moments that are short in a quiet database, made to last: a commit that is streamed before anybody can see it, and
one that can be seen before it is streamed."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import psycopg

_WAITS = "select exists (select from pg_stat_activity where pid = %s and wait_event = 'SyncRep')"

_SETTINGS = ("synchronous_commit = local", "synchronous_standby_names = nobody")

_READERS = {
    "wal": "backend_type = 'walsender' and wait_event ~ '^WalSender'",
    "listen": "backend_type = 'client backend' and query ~ 'bonfire.outbox' and wait_event = 'ClientRead'",
}


@asynccontextmanager
async def unseen_commit(url: str, script: str) -> AsyncIterator[None]:
    """`script` is committed, and so streamed, but no snapshot sees it until the end of this context: it waits for a
    standby that is nowhere. Everybody else's commits wait for nobody. `url` must be a superuser's."""
    async with await _connect(url) as admin, await _connect(url) as writer:
        try:
            for setting in _SETTINGS:
                await admin.execute(f"alter system set {setting}".encode())
                await admin.execute("select pg_reload_conf()")
            await writer.execute("set synchronous_commit = on")
            await _until_commits_wait(writer, admin)
            committing = asyncio.create_task(writer.execute(script.encode()))
            if not await _is_held(committing, writer, admin):
                raise AssertionError("the commit did not wait") from committing.exception()
            yield
        finally:
            for setting in _SETTINGS:
                await admin.execute(f"alter system reset {setting.partition(' ')[0]}".encode())
            await admin.execute("select pg_reload_conf()")
        await committing


@asynccontextmanager
async def streams_halted(url: str, source: str, *, all_nodes: bool = True) -> AsyncIterator[None]:
    """Until the end of this context the nodes hear nothing of what commits, and commits can be seen. `source`: how the
    nodes follow the database of `url`. Not `all_nodes`: one of them, by WAL."""
    async with await _connect(url) as admin:
        pids: list[int] = []
        async with asyncio.timeout(10):
            # Only while they wait: a process that is stopped at work may hold what others need.
            while not pids:
                found = await admin.execute(_QUIET_READERS.replace("_IS_READER_", _READERS[source]).encode())
                pids = [pid for (pid,) in await found.fetchall()]
        halted = pids if all_nodes else pids[:1]
        for pid in halted:
            os.kill(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            for pid in halted:
                os.kill(pid, signal.SIGCONT)


_QUIET_READERS = """
select pid from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid() and _IS_READER_
order by backend_start
"""


async def _connect(url: str) -> psycopg.AsyncConnection:
    return await psycopg.AsyncConnection.connect(url, autocommit=True)


async def _until_commits_wait(writer: psycopg.AsyncConnection, admin: psycopg.AsyncConnection) -> None:
    """Settings reach the processes of a Postgres one by one."""
    while True:
        trying = asyncio.create_task(writer.execute("select pg_logical_emit_message(true, 'a try', '')"))
        if await _is_held(trying, writer, admin):
            await admin.execute("select pg_cancel_backend(%s)", (writer.info.backend_pid,))
            await trying
            return
        await trying


async def _is_held(
    committing: "asyncio.Task[object]", writer: psycopg.AsyncConnection, admin: psycopg.AsyncConnection
) -> bool:
    """Whether this commit waits, instead of coming to its end."""
    while not committing.done():
        found = await admin.execute(_WAITS, (writer.info.backend_pid,))
        if await found.fetchone() == (True,):
            return True
    return False
