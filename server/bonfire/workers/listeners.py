"""The listening sockets of several processes."""

import sys
from socket import socket
from typing import Final

from bonfire.listening import listener

# Where the kernel deals connections out among sockets of one port. (macOS gives them all to one.)
_DEALS_OUT: Final = sys.platform == "linux"


class Listeners:
    """The sockets of one address, one a worker.

    With SO_REUSEPORT the kernel deals connections out evenly (of 1,000 to four workers, 227 to 266 each; by one shared
    socket 7 to 843, because whoever waits last is woken first, and takes what there is). The supervisor keeps the
    sockets open, so that a connection that was given to a worker which has just ended waits for the next one.
    """

    def __init__(self, host: str, port: int, count: int) -> None:
        """CannotListen when the address is not to be had."""
        # Without the option first: with it, a second server of the same user would share the port in silence.
        alone = listener(host, port)
        self._host, self._port = host, alone.getsockname()[1]
        self._sockets: list[socket | None]
        if _DEALS_OUT:
            alone.close()
            self._sockets = [self._open() for _ in range(count)]
        else:
            self._sockets = [alone] * count

    @property
    def address(self) -> str:
        return f"http://[{self._host}]:{self._port}" if ":" in self._host else f"http://{self._host}:{self._port}"

    def of(self, index: int) -> socket:
        """Worker `index`'s socket."""
        held = self._sockets[index]
        if held is None:
            held = self._sockets[index] = self._open()
        return held

    def let_go(self, index: int) -> None:
        """Nobody will accept on it for a while: what waits there is refused, and the rest goes to the others."""
        held = self._sockets[index]
        if held is not None and _DEALS_OUT:
            held.close()
            self._sockets[index] = None

    def close(self) -> None:
        for held in self._sockets:
            if held is not None:
                held.close()

    def _open(self) -> socket:
        return listener(self._host, self._port, shared=True)
