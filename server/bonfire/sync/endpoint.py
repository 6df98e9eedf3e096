"""The live endpoint of a node: who may connect, what all connections share, and their care: signs of life, goodbye."""

import asyncio
import logging
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime
from http import HTTPStatus
from typing import Protocol

from bonfire.access.audit import Trail
from bonfire.access.gate import Access
from bonfire.access.principal import Principal
from bonfire.clinical.execute import Outcome
from bonfire.clinical.registry import Registry
from bonfire.sync.admission import Admission
from bonfire.sync.connection import Connection
from bonfire.sync.handshake import Upgrade
from bonfire.sync.hub import Hub
from bonfire.sync.websocket import PATH, LiveProtocol
from bonfire.telemetry.metrics import Traffic
from bonfire_protocol.down import Drain
from bonfire_protocol.faults import CloseCode
from bonfire_protocol.up import Hello, Mutate

log = logging.getLogger("bonfire.live")

Mutator = Callable[[Access, Mutate, str | None], Awaitable[Outcome]]
"""(what the caller may do, the frame, the address that it came from) -> what became of it."""


class Doorkeeper(Protocol):
    """Tells who comes. Faults: `unauthenticated`, `forbidden`; `unavailable` or `too_many`: come back later."""

    async def hello(self, hello: Hello, upgrade: Upgrade) -> Principal: ...

    async def renew(self, token: str, tenant: str, address: str | None) -> Principal: ...

    def address_of(self, upgrade: Upgrade) -> str | None:
        """Whence it comes, behind the operator's own proxies."""


TEND_SECONDS = 10.0
"""How often each connection is looked after. A peer that is gone without a word is noticed within three of these."""

DRAIN_SECONDS = 1.0
"""At least how long clients are asked to spread their return over, and how long each may take to say goodbye."""

ANSWER_SECONDS = 5.0
"""How long a stop waits for the answers of mutations that are under way."""


@dataclass(frozen=True)
class Limits:
    """What clients may ask for. `connections`: on this node; the others: for each connection. `frames_per_second`: how
    fast one is read from in the long run, after `frames_at_once`, a large one counting as several; what it sends faster
    waits on its side.

    `hello_seconds`: until the first frame; `catch_up_seconds`: how long a client that has seen a newer position than
    this node waits for it here; `hold_seconds`: how long a transition waits for the answer of the client's own
    mutation, which a database that is lost just after the commit can keep back for long; `stalled_seconds`: how long a
    peer that does not keep up may take nothing at all."""

    connections: int = 20_000
    subscriptions: int = 1000
    queries_at_once: int = 16
    mutations_waiting: int = 256
    frames_at_once: int = 2000
    frames_per_second: float = 200.0
    hello_seconds: float = 10.0
    catch_up_seconds: float = 2.0
    hold_seconds: float = 1.0
    stalled_seconds: float = 30.0


class Live:
    """What all connections of a node share (bonfire.sync.websocket.Host)."""

    def __init__(
        self,
        hub: Hub,
        registry: Registry,
        door: Doorkeeper,
        admission: Admission,
        trail: Trail,
        mutate: Mutator,
        new_id: Callable[[], str],
        clock: Callable[[], datetime],
        *,
        functions: str,
        stale_after_ms: int,
        compress: bool,
        limits: Limits,
    ) -> None:
        self.hub = hub
        self.flusher = hub.flusher
        self.registry = registry
        self.names = frozenset(query.name for query in registry.queries)
        self.authenticate = door.hello
        self.renew = door.renew
        self.address_of = door.address_of
        self.admission = admission
        self.trail = trail
        self.mutate = mutate
        self.clock = clock
        self.functions = functions
        """The fingerprint of what the registry declares: see bonfire.sync.stream."""
        self.stale_after_ms = stale_after_ms
        self.compress = compress
        self.limits = limits
        self.connections: set[Connection] = set()
        self.draining = False
        self.refused = 0
        self.received = Traffic()
        self.refusals: Counter[str] = Counter()
        """Frames that were refused, by the code of the fault."""
        self._name = new_id()[:8]
        self._taken = 0
        self._tending: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._tending = asyncio.create_task(self._tend())

    async def stop(self) -> None:
        if self._tending is not None:
            self._tending.cancel()
            await asyncio.gather(self._tending, return_exceptions=True)

    # ---- connections come and go ----------------------------------------------------------------------------

    def refusal(self, upgrade: Upgrade) -> tuple[HTTPStatus, str] | None:
        if upgrade.path != PATH:
            return HTTPStatus.NOT_FOUND, f"the live socket is at {PATH}\n"
        if len(self.connections) >= self.limits.connections:
            self.refused += 1
            return HTTPStatus.SERVICE_UNAVAILABLE, "this server has as many connections as it takes: come back later\n"
        return None

    def take(self, connection: LiveProtocol, upgrade: Upgrade) -> Connection:
        self._taken += 1
        taken = Connection(self, connection, upgrade, f"{self._name}-{self._taken}")
        self.connections.add(taken)
        return taken

    async def drain(self) -> None:
        """Ask all clients to come back later, to any node, and see them off: each is given a moment to read it, and the
        answers of the mutations that are under way."""
        self.draining = True
        spread = int(1000 * max(DRAIN_SECONDS, len(self.connections) / 500))
        for connection in list(self.connections):
            connection.send(Drain(spread))
        await self._until(lambda: not any(connection.busy for connection in self.connections), ANSWER_SECONDS)
        for connection in list(self.connections):
            connection.close(CloseCode.draining, "this server is stopping")
        await self._until(lambda: not self.connections, DRAIN_SECONDS)

    async def _until(self, done: Callable[[], bool], seconds: float) -> None:
        deadline = asyncio.get_running_loop().time() + seconds
        while not done() and asyncio.get_running_loop().time() < deadline:
            await asyncio.sleep(0.01)

    # ---- their care -----------------------------------------------------------------------------------------

    async def _tend(self) -> None:
        """One timer for all: a quiet connection needs none of its own."""
        while True:
            await asyncio.sleep(TEND_SECONDS)
            for count, connection in enumerate(list(self.connections)):
                if count % 500 == 499:
                    # Thousands of pings at once would delay who is waiting for a commit.
                    await asyncio.sleep(0)
                try:
                    connection.tend(TEND_SECONDS)
                except Exception:
                    log.exception("a connection could not be looked after")
