"""The supervisor of several processes, with small programs in the place of servers."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from bonfire.workers.listeners import Listeners
from bonfire.workers.restarts import Restarts
from bonfire.workers.supervisor import Supervisor, WorkersFailed

PATIENCE = 20.0

SERVER = """
import os, signal, socket, sys
listening, lifeline, ready = map(int, sys.argv[-1].partition("=")[2].split(","))
note = open(sys.argv[1], "a", buffering=1)
def say(what):
    note.write(f"{os.environ['BONFIRE_WORKER']} {os.getpid()} {what}\\n")
def drain(*_):
    say("drained")
    os._exit(0)
signal.signal(signal.SIGTERM, drain)
say("started")
{first}
os.write(ready, b"1")
os.close(ready)
import threading
def orphaned():
    os.read(lifeline, 1)
    say("orphaned")
    os._exit(0)
threading.Thread(target=orphaned, daemon=True).start()
import select
taken = socket.socket(fileno=listening)
taken.setblocking(False)
while True:
    select.select([taken], [], [])
    # Whoever is taken is answered, also while it is asked to end.
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
    try:
        connection, _ = taken.accept()
        connection.sendall(os.environ["BONFIRE_WORKER"].encode() + b" " + str(os.getpid()).encode())
        connection.close()
    except BlockingIOError:
        pass
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGTERM])
"""


class Crew:
    """A supervisor under way, and what its workers have noted."""

    def __init__(self, note: Path, listeners: Listeners) -> None:
        self.note = note
        self.listeners = listeners
        self.announced = asyncio.Event()

    def lines(self, what: str) -> list[tuple[int, int]]:
        """(worker, process) of each that has noted that."""
        noted = [line.split() for line in self.note.read_text().splitlines()] if self.note.exists() else []
        return [(int(index), int(pid)) for index, pid, word in noted if word == what]

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(PATIENCE):
            while not condition():
                await asyncio.sleep(0.01)

    async def ask(self) -> tuple[int, int]:
        """Which worker takes a connection, and its process."""
        port = int(self.listeners.address.rpartition(":")[2])
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        async with asyncio.timeout(PATIENCE):
            index, pid = (await reader.read()).split()
        writer.close()
        return int(index), int(pid)


@asynccontextmanager
async def crew(folder: Path, count: int = 2, first: str = "") -> AsyncIterator[tuple[Crew, "asyncio.Task[None]"]]:
    """A supervisor of `count`, stopped in the end. `first`: what each does before it is ready."""
    program = folder / "server.py"
    program.write_text(SERVER.replace("{first}", first))
    listeners = Listeners("127.0.0.1", 0, count)
    made = Crew(folder / "note", listeners)
    supervisor = Supervisor(
        [sys.executable, str(program), str(made.note)],
        listeners,
        count,
        environment=os.environ,
        announce=made.announced.set,
    )
    running = asyncio.create_task(supervisor.run())
    try:
        yield made, running
    finally:
        if not running.done():
            # As SIGTERM does, which would be for the tests' own process.
            supervisor.stop()
        await asyncio.gather(running, return_exceptions=True)
        listeners.close()


async def test_all_serve_before_it_is_said_and_each_knows_its_number(tmp_path: Path) -> None:
    async with crew(tmp_path, 3) as (made, _):
        await asyncio.wait_for(made.announced.wait(), PATIENCE)
        assert sorted(index for index, _ in made.lines("started")) == [0, 1, 2]
        answered: set[int] = set()
        for _ in range(100):
            answered.add((await made.ask())[0])
        assert answered == {0, 1, 2}
    assert sorted(made.lines("drained")) == sorted(made.lines("started"))


async def test_one_that_is_killed_is_started_again_and_nobody_is_refused_meanwhile(tmp_path: Path) -> None:
    async with crew(tmp_path) as (made, _):
        await asyncio.wait_for(made.announced.wait(), PATIENCE)
        index, victim = await made.ask()
        os.kill(victim, signal.SIGKILL)
        answers = [await made.ask() for _ in range(50)]
        assert {number for number, _ in answers} == {0, 1}
        assert victim not in {pid for _, pid in answers}
        assert sum(number == index for number, _ in made.lines("started")) == 2


async def test_one_that_never_starts_ends_all(tmp_path: Path) -> None:
    first = "if os.environ['BONFIRE_WORKER'] == '1': os._exit(3)"
    async with crew(tmp_path, 2, first) as (made, running):
        with pytest.raises(WorkersFailed, match=r"worker 1 did not start \(exit status 3\)"):
            await asyncio.wait_for(running, PATIENCE)
        assert not made.announced.is_set()
    drained = [index for index, _ in made.lines("drained")]
    # The other one may have been asked to end before it could note anything.
    assert drained in ([0], [])


async def test_one_that_ends_again_and_again_ends_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Restarts, "LONGEST", 0.05)
    monkeypatch.setattr(Restarts, "MOST", 3)
    first = "if os.environ['BONFIRE_WORKER'] == '0' and len(open(sys.argv[1]).readlines()) > 2: os._exit(9)"
    async with crew(tmp_path, 2, first) as (made, running):
        await asyncio.wait_for(made.announced.wait(), PATIENCE)
        os.kill(next(pid for index, pid in made.lines("started") if index == 0), signal.SIGKILL)
        with pytest.raises(WorkersFailed, match="worker 0 ends again and again, the last time with exit status 9"):
            await asyncio.wait_for(running, PATIENCE)
    assert [index for index, _ in made.lines("drained")] == [1]


async def test_a_hang_up_replaces_each_by_a_new_one_first(tmp_path: Path) -> None:
    async with crew(tmp_path) as (made, _):
        await asyncio.wait_for(made.announced.wait(), PATIENCE)
        before = made.lines("started")
        os.kill(os.getpid(), signal.SIGHUP)
        answered: list[int] = []

        async def ask_on() -> None:
            while len(made.lines("drained")) < 2:
                answered.append((await made.ask())[1])

        await asyncio.wait_for(ask_on(), PATIENCE)
        assert sorted(made.lines("drained")) == sorted(before)
        await made.until(lambda: len(made.lines("started")) == 4)
        steps = [line.split()[2] for line in made.note.read_text().splitlines()]
        assert steps == ["started", "started", "started", "drained", "started", "drained"]
        # Whoever asks now finds the new ones.
        assert (await made.ask())[1] not in {pid for _, pid in before}


async def test_a_new_one_that_does_not_start_replaces_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    first = "if len(open(sys.argv[1]).readlines()) > 2: os._exit(4)"
    async with crew(tmp_path, 2, first) as (made, _):
        await asyncio.wait_for(made.announced.wait(), PATIENCE)
        os.kill(os.getpid(), signal.SIGHUP)
        await made.until(lambda: "the rest stays" in caplog.text)
        assert made.lines("drained") == []
        assert (await made.ask())[1] in {pid for _, pid in made.lines("started")[:2]}


async def test_those_whose_supervisor_is_killed_end_by_themselves(tmp_path: Path) -> None:
    (tmp_path / "server.py").write_text(SERVER.replace("{first}", ""))
    note = tmp_path / "note"
    script = f"""
import asyncio, os, sys
from bonfire.workers.listeners import Listeners
from bonfire.workers.supervisor import Supervisor
listeners = Listeners("127.0.0.1", 0, 2)
command = [sys.executable, {str(tmp_path / "server.py")!r}, {str(note)!r}]
asyncio.run(
    Supervisor(command, listeners, 2, environment=os.environ, announce=lambda: print("up", flush=True)).run()
)
"""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", script, stdout=asyncio.subprocess.PIPE, env={**os.environ, "PYTHONPATH": _path()}
    )
    assert process.stdout is not None
    async with asyncio.timeout(PATIENCE):
        assert await process.stdout.readline() == b"up\n"
        process.kill()
        while note.read_text().count("orphaned") < 2:
            await asyncio.sleep(0.01)
        await process.wait()


def _path() -> str:
    return os.pathsep.join(sys.path)
