"""What a worker is handed by its supervisor."""

import asyncio
import contextlib
import os
from collections.abc import Callable

from msgspec import Struct


class Handed(Struct, frozen=True):
    """The file descriptors that a worker is given: the listening socket, a pipe that ends when the supervisor does,
    and one to say on that it serves."""

    listening: int
    lifeline: int
    ready: int

    @classmethod
    def parse(cls, text: str) -> "Handed":
        """From the command line's `3,4,5`; ValueError when it is something else."""
        listening, lifeline, ready = (int(part) for part in text.split(","))
        return cls(listening, lifeline, ready)

    def __str__(self) -> str:
        return f"{self.listening},{self.lifeline},{self.ready}"

    def say_ready(self) -> None:
        # The supervisor may be gone: then the lifeline says so.
        with contextlib.suppress(OSError):
            os.write(self.ready, b"1")
        os.close(self.ready)

    def when_orphaned(self, end: Callable[[], None]) -> None:
        """Call `end` when the supervisor is gone, however that came about."""
        loop = asyncio.get_running_loop()

        def gone() -> None:
            loop.remove_reader(self.lifeline)
            end()

        loop.add_reader(self.lifeline, gone)
