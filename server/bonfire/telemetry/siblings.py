"""The metrics of all processes that share a port: whichever is asked, the page shows them all.

Each process tells its families on a Unix socket in a folder that they share, and asks the others when a page is
wanted. So every number is of now, and each process can be told from the others: one that hangs or has ended is seen,
and a counter that starts again from 0 is that of one process only. (Of numbers that were added up beforehand Prometheus
would think that all of them had started again. prometheus_client's own files for several processes outlive those who
wrote them.)
"""

import asyncio
import logging
import os
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from pathlib import Path
from socket import AF_UNIX, SOCK_STREAM, socket

import msgspec

from bonfire.telemetry.families import Family

_log = logging.getLogger(__name__)

PATIENCE = 1.0
"""Seconds that a process may take to answer: less than a scraper waits for the whole page."""

_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(list[Family])


class Siblings:
    """Process `number` of `count`, which share `folder`. `own` gives this one's families."""

    def __init__(self, folder: Path, number: int, count: int, own: Callable[[], Awaitable[Sequence[Family]]]) -> None:
        self._folder = folder
        self._number = number
        self._count = count
        self._own = own
        self._server: asyncio.Server | None = None
        self._inode = 0

    async def start(self) -> None:
        """Answer from now on, in the place of an older process of this number."""
        listening = socket(AF_UNIX, SOCK_STREAM)
        place = self._place(self._number)
        fresh = place.with_suffix(f".{os.getpid()}")
        with suppress(FileNotFoundError):
            fresh.unlink()
        try:
            listening.bind(str(fresh))
            self._inode = fresh.stat().st_ino
            # Renamed, not bound there: the older one may still be at work, and its name is taken over at once.
            fresh.rename(place)
        except BaseException:
            listening.close()
            raise
        self._server = await asyncio.start_unix_server(self._tell, sock=listening)

    async def stop(self) -> None:
        if self._server is None:
            return
        self._server.close()
        place = self._place(self._number)
        with suppress(FileNotFoundError):
            if place.stat().st_ino == self._inode:
                place.unlink()

    async def pages(self) -> dict[int, Sequence[Family] | None]:
        """The families of each, by number; None of one that does not answer."""
        numbers = range(self._count)
        found = await asyncio.gather(*(self._ask(number) for number in numbers))
        return dict(zip(numbers, found, strict=True))

    def _place(self, number: int) -> Path:
        return self._folder / f"worker-{number}.sock"

    async def _tell(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            writer.write(_encoder.encode(await self._own()))
            await writer.drain()
        except OSError:
            # Who asked has gone.
            pass
        except Exception:
            _log.exception("the metrics could not be told to another process")
        finally:
            writer.close()

    async def _ask(self, number: int) -> Sequence[Family] | None:
        if number == self._number:
            return await self._own()
        try:
            async with asyncio.timeout(PATIENCE):
                reader, writer = await asyncio.open_unix_connection(self._place(number))
                try:
                    return _decoder.decode(await reader.read())
                finally:
                    writer.close()
        except (OSError, TimeoutError, msgspec.MsgspecError):
            return None
