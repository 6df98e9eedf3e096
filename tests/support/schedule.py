"""Two sessions in one database, step by step in an order that a test gives."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence

import asyncpg

Step = Callable[[asyncpg.Connection], Awaitable[object]]

_WAITS = "select wait_event_type = 'Lock' from pg_stat_activity where pid = $1"


async def run_schedule(
    watcher: asyncpg.Connection,
    sessions: Sequence[tuple[asyncpg.Connection, Sequence[Step]]],
    order: Sequence[int],
) -> list[BaseException | None]:
    """Run the steps of all sessions, the next one of session `n` for each `n` in `order`.

    A step that waits for a lock is left waiting, and the session's later steps queue behind it. A session ends at its
    first error; returns each session's error.
    """
    runners = [_Runner(conn, steps) for conn, steps in sessions]
    for n in order:
        runners[n].let_go()
        while not runners[n].idle and not await watcher.fetchval(_WAITS, runners[n].pid):
            await asyncio.sleep(0.001)
    return list(await asyncio.gather(*(runner.finish() for runner in runners)))


class _Runner:
    """Runs one session's steps, each when it is let go."""

    def __init__(self, conn: asyncpg.Connection, steps: Sequence[Step]) -> None:
        self.pid = conn.get_server_pid()
        self._done = 0
        self._allowed = asyncio.Semaphore(0)
        self._let_go = 0
        self._task = asyncio.create_task(self._run(conn, steps))

    @property
    def idle(self) -> bool:
        return self._task.done() or self._done == self._let_go

    def let_go(self) -> None:
        self._let_go += 1
        self._allowed.release()

    async def finish(self) -> BaseException | None:
        await asyncio.wait([self._task])
        return self._task.exception()

    async def _run(self, conn: asyncpg.Connection, steps: Sequence[Step]) -> None:
        for step in steps:
            await self._allowed.acquire()
            await step(conn)
            self._done += 1
