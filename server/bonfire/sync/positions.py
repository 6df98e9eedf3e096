"""Where committed transactions lie: told by the change stream, asked for by the answers of mutations."""

import asyncio
from collections import OrderedDict

REMEMBERED = 20_000
"""How many commits are remembered for answers that are still on their way."""


class Positions:
    """Positions by transaction id. The stream's word and the database's answer come in either order."""

    def __init__(self) -> None:
        self._known: OrderedDict[int, int] = OrderedDict()
        self._waiters: dict[int, list[asyncio.Future[int]]] = {}

    def note(self, xid: int, position: int) -> None:
        """The stream has brought this commit."""
        self._known[xid] = position
        if len(self._known) > REMEMBERED:
            self._known.popitem(last=False)
        for waiter in self._waiters.pop(xid, ()):
            if not waiter.done():
                waiter.set_result(position)

    async def of(self, xid: int, timeout: float) -> int | None:
        """Where the commit of this transaction lies; None when the stream does not tell within `timeout` seconds."""
        known = self._known.get(xid)
        if known is not None or not timeout:
            return known
        waiter: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._waiters.setdefault(xid, []).append(waiter)
        try:
            return await asyncio.wait_for(waiter, timeout)
        except TimeoutError:
            return None
        finally:
            waiters = self._waiters.get(xid)
            if waiters is not None and waiter in waiters:
                waiters.remove(waiter)
                if not waiters:
                    del self._waiters[xid]
