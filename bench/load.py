"""The load as a process: N connections that take what comes and look for the rows in it."""

import asyncio
import base64
import sys
import time
from typing import Any

import uvloop

from bench.child import answer_parent, raise_file_limit
from bench.client import Counter, Live, Plain
from bench.dialects import DIALECTS

# Connections made together, where the storm is not what is measured.
_BATCH = 50


class Load:
    """All connections of the process, to one server. `dialect` names its own, or is "plain": sockets without words."""

    def __init__(self, dialect: str, port: int) -> None:
        self._dialect = DIALECTS.get(dialect)
        self._port = port
        self._connections: list[Plain] = []
        self.counter = Counter() if self._dialect is None else Counter(self._dialect.news)

    async def connect(self, count: int, each: int, keys: int, *, at_once: bool) -> dict[str, Any]:
        """`count` more connections; each subscribes to `each` of the `keys` keys, one after another round and round.

        Returns the seconds until all are live, and the least and the most rows that one was given."""
        before = len(self._connections)
        start = time.perf_counter()
        rows: list[int] = []
        batch = count if at_once else _BATCH
        for first in range(before, before + count, batch):
            numbers = range(first, min(first + batch, before + count))
            rows += await asyncio.gather(*(self._connect(number, each, keys) for number in numbers))
        return {"seconds": time.perf_counter() - start, "least": min(rows, default=0), "most": max(rows, default=0)}

    async def _connect(self, number: int, each: int, keys: int) -> int:
        first = number == 0
        made: Plain
        if self._dialect is None:
            made = Plain(self.counter, first=first)
        else:
            made = Live(self.counter, self._dialect, _keys(number, each, keys), first=first)
        await asyncio.get_running_loop().create_connection(lambda: made, "127.0.0.1", self._port)
        self._connections.append(made)
        return await asyncio.wait_for(made.up, 60) if isinstance(made, Live) else 0

    async def subscribe(self, first: int, each: int, keys: int, offset: int) -> None:
        """Each connection but the `first` ones subscribes to `each` more keys of `keys`, which begin at `offset`."""
        for start in range(first, len(self._connections), _BATCH):
            batch = [one for one in self._connections[start : start + _BATCH] if isinstance(one, Live)]
            for number, one in enumerate(batch, start - first):
                one.subscribe(_keys(number, each, keys, offset))
            await asyncio.wait_for(asyncio.gather(*(one.up for one in batch)), 60)

    async def cut(self) -> None:
        """End all connections without a word."""
        ended, self._connections = self._connections, []
        for one in ended:
            one.transport.abort()
        await asyncio.gather(*(one.ended for one in ended))
        self.counter.lost = 0

    def expect_last(self, number: int) -> None:
        self.counter.expect_last(number, len(self._connections))


def _keys(number: int, each: int, keys: int, offset: int = 0) -> list[str]:
    return [f"p{offset + (number * each + one) % keys}" for one in range(each)]


async def main(dialect: str, port: int) -> None:
    raise_file_limit()
    load = Load(dialect, port)

    async def answer(question: dict[str, Any]) -> dict[str, Any]:
        match question["do"]:
            case "connect":
                details = {name: question[name] for name in ("count", "each", "keys", "at_once")}
                return await load.connect(**details)
            case "subscribe":
                details = {name: question[name] for name in ("first", "each", "keys", "offset")}
                await load.subscribe(**details)
                return {}
            case "cut":
                await load.cut()
                return {}
            case "expect":
                load.expect_last(question["last"])
                return {}
            case "wait":
                counter = load.counter
                if "rows" in question:
                    counter.expect_rows(question["rows"])
                await counter.wait(question["timeout"])
                return {"rows": counter.rows, "bytes": counter.bytes, "lost": counter.lost}
            case "record":
                load.counter.arrivals = []
                return {}
            case "arrivals":
                arrivals, load.counter.arrivals = load.counter.arrivals, None
                return {"arrivals": arrivals}
            case "sample":
                return {"data": base64.b64encode(load.counter.last).decode()}
            case unknown:
                raise ValueError(unknown)

    await answer_parent({}, answer)


if __name__ == "__main__":
    uvloop.run(main(sys.argv[1], int(sys.argv[2])))
