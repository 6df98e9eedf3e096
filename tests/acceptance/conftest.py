"""The whole product, run as a user runs it: the `bonfire` command in a process of its own."""

import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from support.databases import create_database, drop_database, in_database
from support.pair import Pair

ROOT = Path(__file__).resolve().parents[2]


class Running:
    """A `bonfire` process that listens. `url` is its http address, `log` all that it has said."""

    def __init__(self, words: list[str], environment: dict[str, str]) -> None:
        self.log: list[str] = []
        self._ready = threading.Event()
        self.url = ""
        self.process = subprocess.Popen(
            [sys.executable, "-m", "bonfire", *words],
            env={**os.environ, "COLUMNS": "200", "NO_COLOR": "1", **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            cwd=ROOT,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        if not self._ready.wait(90) or not self.url:
            self.stop()
            raise AssertionError("bonfire did not start:\n" + "".join(self.log))

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.log.append(line)
            found = re.search(r"live at (http://\S+)", line)
            if found:
                self.url = found[1]
                self._ready.set()
        self._ready.set()

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])

    def kill(self) -> None:
        """kill -9."""
        self.process.kill()
        self.process.wait()

    def stop(self) -> int:
        """SIGTERM, as an operator's service manager does; the exit status."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(30)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        self._reader.join(5)
        if self.process.stdout is not None:
            self.process.stdout.close()
        return self.process.returncode


Start = Callable[..., Running]


@pytest.fixture
def start(database_url: str) -> Iterator[Start]:
    """Start `bonfire dev` on a database of this test's own; `start("dev", ..., BONFIRE_X="...")`."""
    started: list[Running] = []

    def run(*words: str, port: int = 0, **environment: str) -> Running:
        command = list(words) if words else ["dev", "--no-demo"]
        running = Running([*command, "--port", str(port)], {"DATABASE_URL": database_url, **environment})
        started.append(running)
        return running

    yield run
    for running in started:
        running.stop()


@pytest.fixture
def server(start: Start) -> Running:
    """A development server without demo patients."""
    return start()


@pytest.fixture(
    scope="session",
    params=[pytest.param(kind, marks=pytest.mark.xdist_group(f"pair-{kind}")) for kind in ("wal", "listen")],
)
def pair(request: pytest.FixtureRequest, cluster: str, template: str) -> Iterator[Pair]:
    """Two development nodes on one database, with changes from the WAL, and then by LISTEN."""
    name = f"bonfire_pair_{request.param}_{os.getpid()}"
    create_database(cluster, name, template)
    url = in_database(cluster, name)
    environment = {"DATABASE_URL": url, "BONFIRE_CHANGE_SOURCE": request.param, "BONFIRE_HEARTBEAT_MS": "200"}
    nodes: list[Running] = []
    try:
        for _ in range(2):
            nodes.append(Running(["dev", "--no-demo", "--port", "0"], environment))
        first, second = nodes
        yield Pair(request.param, url, (first.url, second.url), (first.process.pid, second.process.pid))
    finally:
        for node in nodes:
            node.stop()
        drop_database(cluster, name)


@pytest.fixture
def tenant() -> str:
    """A tenant of this test's own."""
    return f"t{uuid4().hex[:8]}"


def run_bonfire(*words: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    """A `bonfire` command that ends."""
    return subprocess.run(
        [sys.executable, "-m", "bonfire", *words],
        env={**os.environ, "COLUMNS": "200", "NO_COLOR": "1", **environment},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        cwd=ROOT,
    )
