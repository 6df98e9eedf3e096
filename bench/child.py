"""Processes of a benchmark that answer questions: a server, a floor, a load. One JSON object a line, in and out.

Server and load never share a process: each would be measured with the other's work.
"""

import asyncio
import json
import sys
from collections.abc import Awaitable, Callable
from typing import Any, Self

Answer = Callable[[dict[str, Any]], Awaitable[dict[str, Any]]]


class ChildFailed(Exception):
    """The process ended, or answered with an error."""


class Child:
    """The parent's end."""

    def __init__(self, process: asyncio.subprocess.Process, module: str) -> None:
        self._process = process
        self._module = module
        self.hello: dict[str, Any] = {}

    @classmethod
    async def start(cls, module: str, *arguments: str) -> Self:
        """Start `python -m module` and wait until it says hello."""
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            module,
            *arguments,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        child = cls(process, module)
        child.hello = await child._read()
        return child

    async def ask(self, do: str, **details: Any) -> dict[str, Any]:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"do": do, **details}).encode() + b"\n")
        return await self._read()

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
            raise ChildFailed(f"{self._module} ended")
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise ChildFailed(f"{self._module}: {answer['error']}")
        return answer


async def answer_parent(hello: dict[str, Any], answer: Answer) -> None:
    """The child's end: say hello, then answer questions until the parent closes the pipe."""
    loop = asyncio.get_running_loop()
    questions = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(questions), sys.stdin)
    _say(hello)
    while line := await questions.readline():
        try:
            _say(await answer(json.loads(line)))
        except Exception as error:
            _say({"error": f"{type(error).__name__}: {error}"})
            raise


def _say(words: dict[str, Any]) -> None:
    print(json.dumps(words), flush=True)
