"""A client's mutations: each is sent until it is answered, over as many connections as it takes, under one id."""

import asyncio
import json
import time
from collections.abc import Awaitable, Callable
from random import Random

from msgspec import Raw

from bonfire_protocol.down import Committed, Refused
from bonfire_protocol.up import Mutate
from bonfire_protocol.values import parse_position
from soak.journal import Answer, Journal, Mutation, Source

UNANSWERED = 6.0
"""Seconds after which an unanswered mutation is sent again over another connection."""

Reply = Committed | Refused


class Outbox:
    """Mutations of `client`, in `tenant`. `send` sends a frame now or never; `cut` ends the connection."""

    def __init__(
        self,
        client: str,
        tenant: str,
        journal: Journal,
        random: Random,
        send: Callable[[Mutate], Awaitable[None]],
        cut: Callable[[], None],
    ) -> None:
        self._client = client
        self._tenant = tenant
        self._journal = journal
        self._random = random
        self._send = send
        self._cut = cut
        self._waiting: dict[str, tuple[Mutate, asyncio.Future[Reply]]] = {}

    async def mutate(self, mutation: str, id: str, args: dict[str, object], writes: int) -> Reply:
        """The answer: `committed`, or a refusal that is no matter of time. `writes`: see `journal.Mutation`."""
        frame = Mutate(id, mutation, Raw(json.dumps(args).encode()))
        self._journal.mutations.setdefault(id, Mutation(id, self._tenant, writes, time.time()))
        try:
            while True:
                reply: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
                self._waiting[id] = frame, reply
                await self._send(frame)
                try:
                    async with asyncio.timeout(UNANSWERED):
                        answer = await reply
                except TimeoutError:
                    self._cut()
                    continue
                if isinstance(answer, Committed) or answer.next != "retry":
                    return answer
                await asyncio.sleep(self._random.uniform(0.05, 0.3))
        finally:
            self._waiting.pop(id, None)

    async def send_again(self) -> None:
        """There is a new connection: all that is unanswered, in the order in which it was sent first."""
        for frame, _ in list(self._waiting.values()):
            await self._send(frame)

    def take(self, frame: Reply, source: Source) -> bool:
        """Write an answer down, and hand it on to who waits for it; false when it answers no mutation."""
        mutation = self._journal.mutations.get(frame.id or "")
        if mutation is None:
            return False
        now = time.time()
        match frame:
            case Committed(position=position, value=value):
                place = parse_position(position)
                answer = Answer(now, self._client, "committed", source, place, json.loads(bytes(value)))
            case Refused(code=code, next=what):
                answer = Answer(now, self._client, "refused", source, code=str(code), next=what)
        mutation.answers.append(answer)
        _, reply = self._waiting.get(mutation.id, (None, None))
        if reply is not None and not reply.done():
            reply.set_result(frame)
        return True
