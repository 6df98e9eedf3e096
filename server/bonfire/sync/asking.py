"""One client's queries that are asked once: read under what it may see, and in the trail before the answer goes out.

An answer is not sent by rights that have changed while it was read: it waits until it is known what the client may see
now, and where that is something else it is read again.
"""

import asyncio
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING

from msgspec import Raw

from bonfire.access.audit import Event
from bonfire.access.gate import Access
from bonfire.engine.query import Plan
from bonfire.engine.session import Session
from bonfire.sync.planning import about, plan, reasons
from bonfire.sync.refusals import internal
from bonfire.sync.subscribing import Subscribing
from bonfire_protocol.down import DownFrame, Result
from bonfire_protocol.faults import Fault, FaultCode
from bonfire_protocol.up import Query
from bonfire_protocol.values import format_position

if TYPE_CHECKING:
    from bonfire.sync.endpoint import Live

log = logging.getLogger("bonfire.socket")

DOUBT_SECONDS = 10.0
"""How long the answer to a query waits until it is known again what its caller may see."""


class Asking:
    """See the module. `send` and `refuse` are the connection's; what the client may see is told to `subscribing`."""

    __slots__ = ("_live", "_refuse", "_send", "_session", "_subscribing")

    def __init__(
        self,
        live: "Live",
        session: Session,
        subscribing: Subscribing,
        send: Callable[[DownFrame], None],
        refuse: Callable[[Fault, str | None], None],
    ) -> None:
        self._live = live
        self._session = session
        self._subscribing = subscribing
        self._send = send
        self._refuse = refuse

    async def answer(self, frame: Query, written: Callable[[], int]) -> None:
        """Answer it, or refuse it. `written`: the position of the client's newest own commit, which it must see."""
        try:
            while True:
                access = self._subscribing.access
                planned = self._permitted(frame, access)
                answer, position = await self._live.hub.read_once(self._session.tenant, planned, after=written())
                if await self._undoubted() and access is self._subscribing.access:
                    break
            if isinstance(answer, Fault):
                raise answer
            await self._live.trail.record(self._shown(frame, planned, access, len(answer)))
            value = _value(answer, one=getattr(planned, "shape", "list") == "one")
            self._send(Result(frame.id, format_position(position), value))
        except Fault as fault:
            self._refuse(fault, frame.id)
        except Exception as error:
            log.exception("query %s failed", frame.query)
            self._refuse(internal(error), frame.id)

    def _permitted(self, frame: Query, access: Access) -> Plan:
        """What it reads. A denial is for the trail."""
        try:
            return plan(self._live.registry.find_query(frame.query), bytes(frame.args), access)[1]
        except Fault as fault:
            self._subscribing.denied(frame, fault)
            raise

    def _shown(self, frame: Query, planned: Plan, access: Access, rows: int) -> Event:
        handle = planned.handle
        return self._subscribing.event(
            "query", frame.query, patient=about(handle), policies=reasons(handle, access), count=rows
        )

    async def _undoubted(self) -> bool:
        """Wait until it is known what this client may see; whether it was known all along."""
        known = True
        deadline = asyncio.get_running_loop().time() + DOUBT_SECONDS
        while self._session.doubted_from is not None:
            known = False
            if asyncio.get_running_loop().time() > deadline:
                raise Fault(FaultCode.unavailable, "What you may see can't be read at the moment.")
            await asyncio.sleep(0.01)
        return known


def _value(rows: list[Raw], *, one: bool) -> Raw:
    if one:
        return rows[0] if rows else Raw(b"null")
    return Raw(b"[" + b",".join(bytes(row) for row in rows) + b"]")
