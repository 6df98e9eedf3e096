"""A client that does what the protocol asks of it, comes back after every cut, and writes down all that it sees."""

import asyncio
import time
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from random import Random
from typing import assert_never

from msgspec import Raw
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import WebSocketException
from websockets.typing import Subprotocol

from bonfire.access.minting import mint
from bonfire_protocol.codec import Format, decode_down, encode
from bonfire_protocol.down import (
    Access,
    Checked,
    Committed,
    DownFrame,
    Drain,
    Expiring,
    Indexed,
    Patch,
    Pong,
    Refused,
    Renewed,
    Resumed,
    Snapshot,
    Stale,
    Subscribed,
    Transition,
    Unsubscribed,
    Watermark,
    Welcome,
)
from bonfire_protocol.down import (
    Result as Read,
)
from bonfire_protocol.faults import FaultCode
from bonfire_protocol.up import Check, Hello, Renew, Subscribe, Unsubscribe, UpFrame
from bonfire_protocol.values import format_position, parse_position
from soak.holding import Disagreement, Holding
from soak.journal import Claim, Complaint, Connection, Final, Journal, Step
from soak.node import STALE_AFTER_MS, TOKEN_KEY, Node
from soak.outbox import Outbox
from soak.rows import Key, Result

STALE_AFTER = STALE_AFTER_MS / 1000
DEAD_AFTER = 4 * STALE_AFTER
"""A socket that has been silent for so long is given up."""


class ComeBack(Exception):
    """This connection is over."""


@dataclass(frozen=True)
class Manner:
    """How a client speaks: `deflate` offers compression; `churn` is the mean of seconds between two changes of what it
    holds besides what it always wants (0: none)."""

    format: Format = Format.json
    deflate: bool = False
    churn: float = 0.0


class Client:
    """One client, over as many connections as it takes.

    `shown` is what its user sees, all of it as of `position`; `live` whether it is shown as live.
    """

    def __init__(
        self,
        name: str,
        user: str,
        tenant: str,
        nodes: Sequence[Node],
        journal: Journal,
        random: Random,
        wants: Sequence[Key],
        extras: Sequence[Key],
        manner: Manner,
    ) -> None:
        self.name = name
        self.user = user
        self.tenant = tenant
        self.shown: dict[Key, Result] = {}
        self.position = 0
        self.live = False
        self.wants = {f"w{number}": key for number, key in enumerate(wants)}
        self._nodes = nodes
        self._journal = journal
        self._random = random
        self._extras = extras
        self._manner = manner
        # The stream of what is shown, and the one that the server has named last: its results are still to come.
        self._stream: str | None = None
        self._named: str | None = None
        # Subscriptions that this user may not hold as things are, and all that were ever taken away from them.
        self._denied: set[str] = set()
        self._revoked: set[str] = set()
        self._node = random.choice(nodes)
        self._socket: ClientConnection | None = None
        self._holding = Holding()
        self._log = Connection(name, 0, 0, "wal", 0, 0)
        self._connections = 0
        self._names = 0
        self._swapped = False
        self._told_stale = False
        self._confirmed = 0.0
        self._heard = 0.0
        self._at = 0
        self.outbox = Outbox(name, tenant, journal, random, self._send, self._cut)
        self._beside: set[asyncio.Task[None]] = set()
        self._over = False
        self.calm = False

    # ---- from outside -----------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Until `end`."""
        while not self._over:
            try:
                await self._session()
            except Disagreement as error:
                self._complain("disagreed", str(error))
                self.shown = {}
            except (OSError, WebSocketException, TimeoutError, ComeBack):
                pass
            finally:
                self._become(False)
                for task in list(self._beside):
                    task.cancel()
                if self._socket is not None:
                    self._socket.transport.abort()
                    self._socket = None
            if not self._over:
                await asyncio.sleep(self._random.uniform(0.02, 0.4))
                self._node = self._random.choice(self._nodes)

    @property
    def state(self) -> str:
        """In a few words, for a report."""
        lacking = sorted({key.query for key in self.wants.values()} - {key.query for key in self.shown})
        return (
            f"{'connected' if self._socket else 'not connected'} to node {self._log.node}, at {self._at:X}, "
            f"showing {self.position:X}, lacking {lacking}, told stale: {self._told_stale}"
        )

    def final(self) -> Final:
        """What it shows now, and as of when."""
        return Final(self._log.source, self.position, dict(self.shown))

    def end(self) -> None:
        self._over = True
        self._cut()

    # ---- one connection ---------------------------------------------------------------------------------------------

    async def _session(self) -> None:
        node = self._node
        self._socket = socket = await connect(
            f"ws://127.0.0.1:{node.port}/live",
            subprotocols=[Subprotocol(self._manner.format.value)],
            compression="deflate" if self._manner.deflate else None,
            max_size=None,
            open_timeout=5,
            ping_interval=None,
            close_timeout=0.5,
            proxy=None,
        )
        position = format_position(self.position) if self.position else None
        await self._send(Hello(token=self._token(), position=position, stream=self._stream))
        async with asyncio.timeout(10):
            welcome = decode_down(await socket.recv(), self._manner.format)
        if not isinstance(welcome, Welcome):
            if isinstance(welcome, Refused) and welcome.next == "stop":
                self._complain("refused", f"hello: {welcome.code} {welcome.message}")
            raise ComeBack
        self._welcome(welcome, node, socket)
        for id in list(self._holding.keys):
            await self._subscribe(id)
        await self.outbox.send_again()
        self._beside_do(self._watch())
        if self._manner.churn:
            self._beside_do(self._churn())
        while True:
            frame = decode_down(await socket.recv(), self._manner.format)
            self._heard = time.time()
            self._take(frame)

    def _welcome(self, welcome: Welcome, node: Node, socket: ClientConnection) -> None:
        now = time.time()
        self._connections += 1
        at = parse_position(welcome.position)
        self._log = Connection(self.name, self._connections, node.number, welcome.source, self.position, at)
        self._journal.connections.append(self._log)
        link = node.front.find(socket.local_address[1])
        if link is not None:
            link.on_slow = _Slowed(self._log)
            if link.down_delay or link.drip or link.stalled:
                link.on_slow()
        kept = dict(self.shown) if welcome.stream == self._stream else {}
        self._holding = Holding(keys=dict(self.wants), kept=kept)
        self._named = welcome.stream
        self._denied.clear()
        self._at = at
        self._swapped = False
        self._told_stale = False
        self._confirmed = self._heard = now

    def _token(self) -> str:
        now = datetime.now(UTC)
        return mint(TOKEN_KEY, tenant=self.tenant, user=self.user, name=self.user, now=now, roles=["clinician"])

    async def _subscribe(self, id: str) -> None:
        key = self._holding.keys.get(id)
        if key is not None:
            resume = not self._swapped and key in self._holding.kept
            await self._send(Subscribe(id, key.query, Raw(key.args.encode()), resume))

    async def _send(self, frame: UpFrame) -> None:
        """Now or never: what must arrive is sent again on the next connection."""
        socket = self._socket
        if socket is None:
            return
        try:
            data = encode(frame, self._manner.format)
            async with asyncio.timeout(5):
                await socket.send(data.decode() if self._manner.format is Format.json else data)
        except (OSError, WebSocketException, TimeoutError):
            socket.transport.abort()

    # ---- frames -----------------------------------------------------------------------------------------------------

    def _take(self, frame: DownFrame) -> None:
        match frame:
            case Subscribed() | Resumed() | Snapshot() | Patch():
                self._holding.take(frame)
                self._log.resumed += isinstance(frame, Resumed)
                self._log.conflated += isinstance(frame, Snapshot) and frame.reason == "conflated"
                if isinstance(frame, Snapshot) and frame.reason == "repaired":
                    self._complain("repaired", "a self-check has found that what was sent was wrong")
            case Transition():
                how = self._holding.described()
                self._move(parse_position(frame.position), self._holding.transition(), how)
            case Watermark():
                if self._holding.parts:
                    self._complain("disagreed", "a watermark came inside of a transition")
                self._confirmed = self._heard
                self._told_stale = False
                self._move(parse_position(frame.position), {}, "watermark")
            case Stale():
                self._told_stale = True
                self._become(False)
            case Unsubscribed():
                self._let_go(frame.id)
                if frame.code is FaultCode.forbidden:
                    self._revoked.add(frame.id)
                    self._denied.add(frame.id)
                elif frame.code is not None:
                    self._beside_do(self._subscribe_later(frame.id))
            case Committed():
                self.outbox.take(frame, self._log.source)
            case Refused():
                self._refused(frame)
            case Checked():
                self._journal.checks[frame.outcome] = self._journal.checks.get(frame.outcome, 0) + 1
                if frame.outcome == "differed":
                    self._complain("differed", "a self-check has found that what was sent was wrong")
            case Drain():
                self._beside_do(self._leave(self._random.uniform(0, frame.after_ms / 1000)))
            case Access():
                self._named = frame.stream
                denied, self._denied = self._denied, set()
                for id in denied:
                    self._beside_do(self._subscribe_later(id))
            case Expiring():
                self._names += 1
                self._beside_do(self._send(Renew(f"r{self._names}", self._token())))
            case Pong() | Indexed() | Read() | Renewed():
                pass
            case Welcome():
                self._complain("disagreed", "a second welcome")
            case _:
                assert_never(frame)

    def _move(self, position: int, changed: dict[Key, Result], how: str) -> None:
        self._at = position
        self._log.steps.append(Step(self._heard, position, dict(changed), how))
        if not self._swapped:
            came = {self._holding.keys[id] for id in self._holding.numbers}
            due = {key for id, key in self.wants.items() if id not in self._denied}
            self._swapped = came >= due
        if self._swapped:
            self._stream = self._named
            self.shown = self._holding.results()
            self.position = position
            self._become(not self._told_stale and time.time() - self._confirmed < STALE_AFTER)

    def _let_go(self, id: str) -> None:
        gone = self._holding.let_go(id)
        if gone is not None:
            self.shown.pop(gone, None)
            self._log.steps.append(Step(self._heard, self._at, {gone: None}))

    def _refused(self, frame: Refused) -> None:
        if self.outbox.take(frame, self._log.source):
            return
        if frame.id is None:
            if frame.next == "stop":
                self._complain("refused", f"{frame.code} {frame.message}")
        elif frame.code is FaultCode.forbidden and frame.id in self._revoked:
            self._let_go(frame.id)
            self._denied.add(frame.id)
        elif frame.id in self._holding.keys:
            if frame.next == "stop" and frame.code != "not_found":
                # Not found is what an impatient client gets that lets go of the same thing twice.
                self._complain("refused", f"a subscription: {frame.code} {frame.message}")
            self._beside_do(self._subscribe_later(frame.id))
        elif frame.id.startswith("r"):
            self._complain("refused", f"a renewal: {frame.code} {frame.message}")

    def _become(self, live: bool) -> None:
        self.live = live
        if self._swapped or not live:
            self._log.claims.append(Claim(time.time(), self.position, live))

    def _complain(self, kind: str, detail: str) -> None:
        self._journal.complaints.append(Complaint(time.time(), self.name, kind, detail))

    # ---- beside -----------------------------------------------------------------------------------------------------

    async def _watch(self) -> None:
        """Time that passes: what nothing confirms is stale, and a silent socket is dead."""
        while True:
            await asyncio.sleep(0.1)
            now = time.time()
            if self.live and now - self._confirmed >= STALE_AFTER:
                self._become(False)
            if now - self._heard >= DEAD_AFTER:
                self._cut()
                return

    async def _churn(self) -> None:
        """Subscribe to more, let go of it again, ask for a check: also twice at once, and before it has come."""
        while True:
            await asyncio.sleep(self._random.expovariate(1 / self._manner.churn))
            if self.calm:
                continue
            extra = [id for id in self._holding.keys if id not in self.wants]
            if extra and self._random.random() < 0.5:
                await self._send(Unsubscribe(self._random.choice(extra)))
            elif len(extra) < 4 and self._extras:
                self._names += 1
                id = f"x{self._names}"
                self._holding.keys[id] = self._random.choice(self._extras)
                await self._subscribe(id)
                if self._random.random() < 0.2:
                    await self._send(Unsubscribe(id))
            if self._random.random() < 0.3 and self._holding.numbers:
                self._names += 1
                await self._send(Check(f"c{self._names}", self._random.choice(list(self._holding.numbers))))

    async def _subscribe_later(self, id: str) -> None:
        """A subscription that failed is asked for again, if it is one that is always wanted."""
        if id in self.wants:
            await asyncio.sleep(self._random.uniform(0.1, 0.4))
            self._holding.keys.setdefault(id, self.wants[id])
            await self._subscribe(id)
        else:
            self._holding.let_go(id)

    async def _leave(self, after: float) -> None:
        await asyncio.sleep(after)
        self._cut()

    def _cut(self) -> None:
        if self._socket is not None:
            self._socket.transport.abort()

    def _beside_do(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(work)
        self._beside.add(task)
        task.add_done_callback(self._beside.discard)


class _Slowed:
    """Notes when a connection's network begins to hold bytes back."""

    def __init__(self, log: Connection) -> None:
        self._log = log

    def __call__(self) -> None:
        self._log.slowed_at = min(self._log.slowed_at, time.time())
