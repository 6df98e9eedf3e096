"""Processes of a benchmark that answer questions: a server, a floor, a load. One JSON object a line, in and out.

Server and load never share a process: each would be measured with the other's work.
"""

import asyncio
import gc
import json
import os
import resource
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Self

Answer = Callable[[dict[str, Any]], Awaitable[dict[str, Any]]]

# Where `python -m bench...` is found.
_ROOT = Path(__file__).parent.parent

# An answer may be long: the arrivals of a whole run.
_LONGEST_LINE = 256 * 1024 * 1024


class ChildFailed(Exception):
    """The process ended, or answered with an error."""


class Child:
    """The parent's end."""

    def __init__(self, process: asyncio.subprocess.Process, name: str) -> None:
        self._process = process
        self._name = name
        self.hello: dict[str, Any] = {}

    @classmethod
    async def start(cls, module: str, *arguments: str) -> Self:
        """Start `python -m module` and wait until it says hello."""
        return await cls.run(sys.executable, "-m", module, *arguments)

    @classmethod
    async def run(cls, *command: str) -> Self:
        """Start any program that answers questions, and wait until it says hello."""
        process = await asyncio.create_subprocess_exec(
            *command,
            cwd=_ROOT,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            limit=_LONGEST_LINE,
        )
        child = cls(process, " ".join(command[:4]))
        child.hello = await child._read()
        return child

    async def ask(self, do: str, **details: Any) -> dict[str, Any]:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"do": do, **details}).encode() + b"\n")
        return await self._read()

    async def cpu(self) -> float:
        """Seconds of CPU that all of the process has used so far."""
        used: float = (await self.ask("usage"))["cpu"]
        return used

    async def kilobytes(self) -> float:
        """What of the process is in memory, after a collection of garbage."""
        held: float = (await self.ask("usage", collect=True))["kb"]
        return held

    async def stop(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            await asyncio.wait_for(self._process.wait(), 15)
        except TimeoutError:
            self._process.kill()
            await self._process.wait()

    async def _read(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = await self._process.stdout.readline()
        if not line:
            raise ChildFailed(f"{self._name} ended")
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise ChildFailed(f"{self._name}: {answer['error']}")
        return answer


async def answer_parent(hello: dict[str, Any], answer: Answer) -> None:
    """The child's end: say hello, then answer questions until the parent closes the pipe. `usage` is answered here."""
    loop = asyncio.get_running_loop()
    questions = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(questions), sys.stdin)
    _say(hello)
    while line := await questions.readline():
        question = json.loads(line)
        try:
            _say(usage(question) if question["do"] == "usage" else await answer(question))
        except Exception as error:
            _say({"error": f"{type(error).__name__}: {error}"})
            raise


async def answer_nothing(question: dict[str, Any]) -> dict[str, Any]:
    """For a process that is asked for its usage alone."""
    raise ValueError(question["do"])


def usage(question: dict[str, Any]) -> dict[str, Any]:
    if question.get("collect"):
        gc.collect()
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return {"cpu": time.process_time(), "kb": pages * os.sysconf("SC_PAGE_SIZE") / 1024}


def raise_file_limit() -> None:
    """As many sockets as the system lets this process have."""
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def _say(words: dict[str, Any]) -> None:
    print(json.dumps(words), flush=True)
