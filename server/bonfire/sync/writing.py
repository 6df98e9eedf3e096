"""One client's mutations: done one after the other, in the order sent, each answered before its transition is shown.

Made when the client first writes. It outlives its connection for as long as a mutation is under way, so that this one's
outcome is known when the client asks again.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import msgspec
from msgspec import Raw

from bonfire.engine.commit import IndexProgress
from bonfire.engine.session import Session
from bonfire.sync.refusals import internal, too_many
from bonfire.sync.subscribing import Subscribing
from bonfire_protocol.down import Committed, DownFrame, Indexed, IndexState
from bonfire_protocol.faults import Fault
from bonfire_protocol.up import Mutate
from bonfire_protocol.values import format_position

if TYPE_CHECKING:
    from bonfire.sync.endpoint import Live

log = logging.getLogger("bonfire.socket")

MOST_WAITING_BYTES = 8 * 1024 * 1024
"""Of one client's mutations that wait for those before them."""


class Writing:
    """See the module. `send` and `refuse` are the connection's; what they are given after it is gone goes nowhere."""

    __slots__ = (
        "_address",
        "_early",
        "_following",
        "_gone",
        "_hub",
        "_live",
        "_mutator",
        "_patience",
        "_refuse",
        "_send",
        "_session",
        "_subscribing",
        "_tenant",
        "_unanswered",
        "_waiting",
        "_waiting_bytes",
        "position",
    )

    def __init__(
        self,
        live: "Live",
        session: Session,
        subscribing: Subscribing,
        send: Callable[[DownFrame], None],
        refuse: Callable[[Fault, str | None], None],
        address: str | None,
    ) -> None:
        self.position = 0
        """That of its newest commit."""
        self._live = live
        self._hub = live.hub
        self._session = session
        # What the client may do is what it was told last that it may see.
        self._subscribing = subscribing
        self._address = address
        self._tenant = session.tenant
        self._send = send
        self._refuse = refuse
        self._waiting: deque[Mutate] = deque()
        self._waiting_bytes = 0
        self._mutator: asyncio.Task[None] | None = None
        self._unanswered: str | None = None
        self._patience: asyncio.TimerHandle | None = None
        self._early: list[IndexProgress] = []
        self._following: dict[str, set[str]] = {}
        self._gone = False

    @property
    def busy(self) -> bool:
        """Whether a mutation is under way."""
        return self._unanswered is not None

    def add(self, frame: Mutate) -> None:
        """The next one. Fault `too_many` when as many wait as may."""
        size = len(frame.args)
        if len(self._waiting) >= self._live.limits.mutations_waiting:
            raise too_many("mutations waiting", self._live.limits.mutations_waiting)
        if self._waiting and self._waiting_bytes + size > MOST_WAITING_BYTES:
            raise too_many("bytes of mutations waiting", MOST_WAITING_BYTES)
        self._waiting.append(frame)
        self._waiting_bytes += size
        if self._mutator is None:
            self._mutator = asyncio.create_task(self._do_in_order())

    def leave(self) -> None:
        """The connection is gone. What still waits was never begun."""
        self._gone = True
        if self._patience is not None:
            self._patience.cancel()
        self._waiting.clear()
        for mutation in list(self._following):
            self._forget(mutation)

    # ---- the hub's side (bonfire.sync.hub.Author) -----------------------------------------------------------

    def committed(self, mutation: str, position: int) -> None:
        """The next commit is this mutation. Its answer goes out before its transition, so that the client knows at
        which transition its optimistic values give way."""
        if mutation == self._unanswered and not self._gone:
            self._hub.engine.await_answer(self._session, position)
            loop = asyncio.get_running_loop()
            self._patience = loop.call_later(self._live.limits.hold_seconds, self._let_go)

    def indexed(self, progress: IndexProgress) -> None:
        """An index has got on with one of these mutations."""
        if progress.mutation == self._unanswered:
            self._early.append(progress)
            return
        following = self._following.get(progress.mutation)
        if following is None or progress.index not in following:
            return
        self._send(Indexed(progress.mutation, progress.index, progress.state, progress.reason))
        if progress.state != "pending":
            following.discard(progress.index)
            if not following:
                self._forget(progress.mutation)

    # ---- inside ---------------------------------------------------------------------------------------------

    async def _do_in_order(self) -> None:
        while self._waiting:
            frame = self._waiting.popleft()
            self._waiting_bytes -= len(frame.args)
            self._unanswered = frame.id
            try:
                await self._do(frame)
            except Fault as fault:
                self._refuse(fault, frame.id)
            except Exception as error:
                log.exception("mutation %s failed", frame.mutation)
                self._refuse(internal(error), frame.id)
            finally:
                self._unanswered = None
                self._let_go()
                early, self._early = self._early, []
                for progress in early:
                    self.indexed(progress)
                if self._gone or frame.id not in self._following:
                    self._forget(frame.id)
        self._mutator = None

    async def _do(self, frame: Mutate) -> None:
        self._hub.expect_index(self._tenant, frame.id, self)
        outcome = await self._live.mutate(self._subscribing.access, frame, self._address)
        position = await self._hub.position_of(outcome.xid, new=not outcome.replayed)
        self.position = max(self.position, position)
        pending = {index for index, state in outcome.indexes.items() if state == "pending"}
        if pending:
            self._following[frame.id] = pending
        self._send(
            Committed(
                frame.id,
                "committed",
                format_position(position),
                Raw(outcome.value),
                dict.fromkeys(outcome.views, "fresh"),
                _states(outcome.indexes),
            )
        )
        self._let_go()
        if not self._gone:
            # Where it holds nothing that this write touched: say that what it holds is true there too.
            self._hub.engine.confirm(self._session, position)
            self._hub.pump()

    def _let_go(self) -> None:
        """What was held back for the answer may go."""
        if self._patience is not None:
            self._patience.cancel()
            self._patience = None
            if not self._gone:
                self._hub.engine.answered(self._session)
                self._hub.pump()

    def _forget(self, mutation: str) -> None:
        self._following.pop(mutation, None)
        self._hub.forget_index(self._tenant, mutation, self)


def _states(indexes: Mapping[str, str]) -> dict[str, IndexState]:
    return msgspec.convert(indexes, dict[str, IndexState])
