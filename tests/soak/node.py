"""One bonfire node as an operator runs it: `bonfire serve` in a process of its own, behind a proxy on either side."""

import asyncio
import os
import re
import signal
import sys
from pathlib import Path
from typing import TextIO

from soak.proxy import Link, Proxy
from soak.script import NodeKind

TOKEN_KEY = "a key of the soak and of nothing else"
HEARTBEAT_MS = 200
STALE_AFTER_MS = 1500

_MODULE = Path(__file__).with_name("clinic.py")
_FAKETIME = Path("/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1")
_LIVE = re.compile(r"live at http://\S+:(\d+)")


class Node:
    """Node `number`. `front` is where clients come in; `back` is its way to Postgres.

    Whenever it ends without having been told to, it is started again, as a service manager does.
    """

    def __init__(
        self, number: int, kind: NodeKind, postgres: Path, standby: Path | None, folder: Path, *, jumps: bool
    ) -> None:
        """`postgres`, `standby`: their sockets."""
        self.number = number
        self.kind = kind
        self.front = Proxy()
        self.back = Proxy(str(postgres))
        self.read = Proxy(str(standby)) if kind == "replica" else None
        self.port = 0
        self.starts = 0
        self.faults: list[str] = []
        self.log = folder / f"node-{number}.log"
        self._clock = folder / f"clock-{number}" if jumps and _FAKETIME.exists() else None
        self._tracing = False
        self._wanted = True
        self._process: asyncio.subprocess.Process | None = None
        self._keeper: asyncio.Task[None] | None = None
        self._ready = asyncio.Event()
        self._environment: dict[str, str] = {}

    async def start(self) -> None:
        """Until it listens."""
        self.port = await self.front.start()
        back = await self.back.start()
        self._environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith(("BONFIRE_", "PG"))},
            "DATABASE_URL": f"postgresql://postgres@127.0.0.1:{back}/postgres?sslmode=disable",
            "BONFIRE_TOKEN_KEY": TOKEN_KEY,
            "BONFIRE_CHANGE_SOURCE": "listen" if self.kind == "listen" else "wal",
            "BONFIRE_HEARTBEAT_MS": str(HEARTBEAT_MS),
            "BONFIRE_STALE_AFTER_MS": str(STALE_AFTER_MS),
            "BONFIRE_AGENT_CONTEXT": "off",
            "NO_COLOR": "1",
            "COLUMNS": "200",
        }
        if self.read is not None:
            port = await self.read.start()
            self._environment["BONFIRE_READ_URL"] = f"postgresql://postgres@127.0.0.1:{port}/postgres?sslmode=disable"
        if self._clock is not None:
            self._clock.write_text("+0\n")
            self._environment |= {
                "LD_PRELOAD": str(_FAKETIME),
                "FAKETIME_TIMESTAMP_FILE": str(self._clock),
                "FAKETIME_NO_CACHE": "1",
                "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            }
        self._keeper = asyncio.create_task(self._keep())
        async with asyncio.timeout(60):
            await self._ready.wait()

    async def stop(self) -> None:
        """For good, as a deploy stops it; whatever is left after a while is killed."""
        self._wanted = False
        self.signal(signal.SIGCONT)
        self.signal(signal.SIGTERM)
        if self._keeper is not None:
            try:
                async with asyncio.timeout(20):
                    await self._keeper
            except TimeoutError:
                self.faults.append(f"node {self.number} did not end within 20 s of SIGTERM")
                self.signal(signal.SIGKILL)
                await asyncio.gather(self._keeper, return_exceptions=True)
        await self.front.stop()
        await self.back.stop()
        if self.read is not None:
            await self.read.stop()

    @property
    def database_links(self) -> list[Link]:
        """Its connections to Postgres and, where it reads from there, to the standby."""
        return [*self.back.links, *(self.read.links if self.read is not None else ())]

    def heal(self) -> None:
        """End the troubles of its network and of its clock."""
        self.set_clock(0)
        self.signal(signal.SIGCONT)
        for proxy in (self.front, self.back, self.read):
            if proxy is not None:
                proxy.heal()

    def signal(self, number: signal.Signals) -> None:
        """To the process that the service manager knows; to stop and to continue it, to all of its processes."""
        if self._process is None or self._process.returncode is not None:
            return
        if number in (signal.SIGSTOP, signal.SIGCONT):
            os.killpg(self._process.pid, number)
        else:
            self._process.send_signal(number)

    def kill_worker(self, choice: int) -> bool:
        """kill -9 of one of its several processes; false where it is but one."""
        if self.kind != "workers" or self._process is None:
            return False
        children = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children").read_text().split()
        if children:
            os.kill(int(children[choice % len(children)]), signal.SIGKILL)
        return bool(children)

    async def until_ready(self) -> None:
        await self._ready.wait()

    def set_clock(self, seconds: float) -> bool:
        """Make this node's clock differ by so much from the true one; false where its clock can't be changed."""
        if self._clock is None:
            return False
        self._clock.write_text(f"{seconds:+.1f}\n")
        return True

    async def _keep(self) -> None:
        while self._wanted:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "bonfire",
                "serve",
                str(_MODULE),
                "--port",
                "0",
                *(["--workers", "2"] if self.kind == "workers" else []),
                env=self._environment,
                # A group of its own, so that all of its processes can be stopped and continued together.
                start_new_session=True,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.STDOUT,
            )
            self._process = process
            self.starts += 1
            assert process.stdout is not None
            with self.log.open("a") as log:
                async for line in process.stdout:
                    self._take(line.decode(errors="replace"), log)
            await process.wait()
            self._ready.clear()
            self.front.upstream = None
            if self._wanted:
                # It may have ended because Postgres is away.
                await asyncio.sleep(0.3)

    def _take(self, line: str, log: TextIO) -> None:
        print(line, end="", file=log, flush=True)
        found = _LIVE.search(line)
        if found:
            self.front.upstream = int(found[1])
            self._ready.set()
        if self._tracing and not line.startswith((" ", "Traceback")):
            # A traceback's last line says what it was.
            self.faults.append(f"node {self.number} logged a traceback: {line.strip()[:300]}")
            self._tracing = False
        self._tracing |= "Traceback (most recent call last)" in line
        if "never retrieved" in line:
            self.faults.append(f"node {self.number}: {line.strip()[:300]}")
