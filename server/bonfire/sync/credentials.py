"""How long a client's token lasts: its end is told ahead, and enforced; a new one takes its place without a cut."""

import asyncio
from collections.abc import Callable
from datetime import datetime

from bonfire_protocol.down import DownFrame, Expiring

AHEAD_SECONDS = 60.0
"""How long before a token's end its client is told."""


class Credentials:
    """`expire` is called at the token's end. `clock` gives the time with its zone."""

    __slots__ = ("_clock", "_expire", "_send", "_timer")

    def __init__(
        self, clock: Callable[[], datetime], send: Callable[[DownFrame], None], expire: Callable[[], None]
    ) -> None:
        self._clock = clock
        self._send = send
        self._expire = expire
        self._timer: asyncio.TimerHandle | None = None

    def left(self, expires_at: int | None) -> float | None:
        """Seconds until then; None: it never comes."""
        return None if expires_at is None else expires_at - self._clock().timestamp()

    def hold(self, expires_at: int | None) -> None:
        """The token in force ends then. One that ends soon is told so at once."""
        self.drop()
        left = self.left(expires_at)
        if left is not None and expires_at is not None:
            delay = max(0.0, left - AHEAD_SECONDS)
            self._timer = asyncio.get_running_loop().call_later(delay, self._announce, expires_at)

    def drop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _announce(self, expires_at: int) -> None:
        left = self.left(expires_at) or 0.0
        if left > AHEAD_SECONDS + 1.0:
            # The clock that tokens are judged by was set back, or the timer is early: the loop's clock is another one.
            self.hold(expires_at)
            return
        self._send(Expiring(max(0, int(1000 * left))))
        self._timer = asyncio.get_running_loop().call_later(max(0.0, left), self._end, expires_at)

    def _end(self, expires_at: int) -> None:
        left = self.left(expires_at) or 0.0
        if left > 1.0:
            self.hold(expires_at)
            return
        self._timer = None
        self._expire()
