"""Bytes to sockets: a frame is spelled once and the same bytes go to every connection, one write per loop tick.

The whole cost of a commit to many is the system call for each of them (some 4.5 us), so all else is done once: the
encoding, the WebSocket framing (server frames are not masked, so they are the same for everybody), the compression
(no context is kept between frames), and even the look-up of the sockets, as long as the audience stays the same.

Bytes go to the socket itself, and to uvicorn's transport only where the kernel does not take them at once: the
transport's own way to the same system call costs a fifth more. So there is one way out for all bytes of a connection,
`Wire.send`, which knows whether the transport still holds some that must go first.

Nothing here waits. A transport that is behind by `HIGH_WATER` says so; then its session is parked, and what is for it
alone waits in `pending`, not spelled yet, until it has read on.
"""

import asyncio
import logging
import time
import zlib
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from socket import socket

from bonfire.engine.frames import SharedFrame
from bonfire.telemetry.metrics import Histogram, Traffic
from bonfire.telemetry.tracing import Sending
from bonfire_protocol.codec import Format

log = logging.getLogger("bonfire.fanout")

HIGH_WATER = 256 * 1024
"""Bytes in a transport's buffer, behind what the kernel has taken: from here on a peer does not keep up."""

LOW_WATER = 64 * 1024
"""Here it does again."""

MOST_BUFFERED = 8 * 1024 * 1024
"""Bytes. Who asks and asks, and does not read the answers, is cut off."""

LEAST_COMPRESSED = 512
"""Bytes: what is shorter gains too little."""

_FEW = 4
"""Frames that are joined and written whatever the buffer says: a commit's usual patches, and their end."""

_OPCODE = {Format.json: 0x81, Format.msgpack: 0x82}
_COMPRESSED = 0x40


@dataclass(frozen=True)
class Spelling:
    """How frames look on one connection."""

    format: Format
    compressed: bool


PLAIN = Spelling(Format.json, compressed=False)


class Wire:
    """One connection's way out. `spelling` is that of its data frames. `socket` is a descriptor of its own for the
    transport's socket (the transport's number may be another client's once it is closed); None where all bytes must go
    through the transport, as with TLS."""

    __slots__ = ("_flusher", "_queued", "_socket", "_transport", "behind", "paused", "pending", "shut", "spelling")

    def __init__(self, transport: asyncio.Transport, socket: socket | None, flusher: "Flusher") -> None:
        self.spelling = PLAIN
        self.behind = socket is None
        """Whether the transport may hold bytes that must go first."""
        self._transport = transport
        self._socket = socket
        self.paused = False
        self.shut = False
        """Whether its close frame is out, or came: nothing may follow."""
        self.pending: deque[SharedFrame] = deque()
        self._flusher = flusher
        self._queued = 0

    def write(self, framed: bytes) -> None:
        """An answer, in WebSocket framing, for this connection alone. It goes before the parts of a transition that
        wait for the peer to read on."""
        self._flusher.queue(framed, Way([self]))
        self._queued += len(framed)
        if self._queued > MOST_BUFFERED:
            self._flusher.flush()

    def give(self, frames: Sequence[SharedFrame]) -> None:
        """What the engine says to this connection alone: as much of it as the peer takes now, and the rest as it reads
        on."""
        if not self.pending and len(frames) <= _FEW:
            framed = spelled(frames, self.spelling)
            if framed is None:
                self.abort()
            else:
                self.write(framed)
            return
        self.pending.extend(frames)
        self._flusher.flush()
        self.feed()

    def feed(self) -> None:
        """Write what waits, until the peer is behind again."""
        while self.pending and not self.paused and not self.shut:
            framed = spelled([self.pending.popleft()], self.spelling)
            if framed is None:
                self.abort()
                return
            self._flusher.sent.bytes += len(framed)
            self.send(framed)
        if self.pending:
            self._flusher.clogged.add(self)
        else:
            self._flusher.clogged.discard(self)

    def send(self, framed: bytes) -> None:
        """Hand over bytes now, behind all that was sent before."""
        self._queued = 0
        if self.shut:
            return
        if self.behind and not self._caught_up():
            if self.buffered() > MOST_BUFFERED:
                # What it asked for must not fill this node.
                self.abort()
            else:
                self.hand_over(framed, 0)
            return
        assert self._socket is not None
        try:
            sent = self._socket.send(framed)
        except OSError:
            # It takes nothing now, or is broken; the transport finds out which.
            sent = 0
        if sent != len(framed):
            self.hand_over(framed, sent)

    def hand_over(self, framed: bytes, sent: int) -> None:
        """The kernel has taken only so much: the rest is the transport's."""
        if self.shut:
            return
        if self._transport.is_closing():
            # The rest is lost, so nothing may come behind it.
            self.end()
            return
        self.behind = True
        self._flusher.behind.add(self)
        self._transport.write(framed[sent:])

    def sender(self) -> Callable[[bytes], int] | None:
        """The socket's own `send`: for one that is not behind."""
        return None if self._socket is None else self._socket.send

    def buffered(self) -> int:
        """Bytes that the kernel has not taken yet."""
        return self._transport.get_write_buffer_size()

    def end(self) -> None:
        """Nothing more may follow, also of what was queued for many already: this way to the socket is closed."""
        self.shut = True
        self.pending.clear()
        self._flusher.clogged.discard(self)
        self._flusher.behind.discard(self)
        if self._socket is not None:
            self._socket.close()

    def abort(self) -> None:
        """Cut the connection without a word: the peer does not read, or can't be told."""
        self.end()
        self._transport.abort()

    def _caught_up(self) -> bool:
        if self._socket is None or self._transport.is_closing() or self._transport.get_write_buffer_size():
            return False
        self.behind = False
        self._flusher.behind.discard(self)
        return True


class Way:
    """The wires to which the same bytes go."""

    __slots__ = ("_senders", "wires")

    def __init__(self, wires: list[Wire]) -> None:
        self.wires = wires
        self._senders: list[tuple[Wire, Callable[[bytes], int]]] | None = None

    def send(self, framed: bytes, behind: set[Wire]) -> None:
        """Write to all of them, now. `behind`: those of this node whose transports hold bytes."""
        if self._senders is None:
            senders = [(wire, wire.sender()) for wire in self.wires]
            self._senders = [(wire, sender) for wire, sender in senders if sender is not None]
        if len(self._senders) < len(self.wires) or (behind and any(wire.behind for wire in self.wires)):
            for wire in self.wires:
                wire.send(framed)
            return
        # This loop runs for every delivery, so it looks at nothing: the socket of a wire that was shut is closed.
        length = len(framed)
        for wire, send in self._senders:
            try:
                sent = send(framed)
            except OSError:
                sent = 0
            if sent != length:
                wire.hand_over(framed, sent)


class Flusher:
    """What is written in one tick of the loop leaves at its end, and what is for one connection in one write.

    Nearly every tick has one batch, a commit's bytes for all who hold what it touched; in a storm, a few of the same
    audience. Then nothing is kept for each connection, and nothing joined for each of them.
    """

    def __init__(self, now: Callable[[], float] = time.time) -> None:
        """`now`: seconds since 1970, as the database counts them."""
        self.sent = Traffic()
        self.commit_to_send = Histogram()
        """From a commit, by the database's clock, to when its bytes have been handed to all sockets."""
        self.clogged: set[Wire] = set()
        """Those for which parts of a transition wait."""
        self.behind: set[Wire] = set()
        """Those whose transports hold bytes."""
        self._now = now
        self._batches: list[tuple[bytes, Way]] = []
        self._commits: list[tuple[float, Sending | None]] = []

    def queue(self, framed: bytes, way: Way) -> None:
        """These bytes to each of these, after all that was queued before."""
        if not self._batches:
            asyncio.get_running_loop().call_soon(self.flush)
        self._batches.append((framed, way))
        self.sent.bytes += len(framed) * len(way.wires)

    def note_commit(self, at: float, fan_out: Sending | None) -> None:
        """What was queued last is of a commit of that time (seconds since 1970); `fan_out` ends when all of it has been
        handed over."""
        self._commits.append((at, fan_out))
        if not self._batches:
            self._measure()

    def flush(self) -> None:
        """Write what is queued now."""
        batches, self._batches = self._batches, []
        if batches:
            self._write(batches)
        if self._commits:
            self._measure()

    def _measure(self) -> None:
        commits, self._commits = self._commits, []
        now = self._now()
        for at, fan_out in commits:
            self.commit_to_send.observe(now - at)
            if fan_out is not None:
                fan_out.end()

    def _write(self, batches: list[tuple[bytes, Way]]) -> None:
        first = batches[0][1]
        if len(first.wires) > 1 and all(way is first for _, way in batches):
            framed = batches[0][0] if len(batches) == 1 else b"".join([framed for framed, _ in batches])
            first.send(framed, self.behind)
            return
        together: dict[Wire, list[bytes]] = {}
        for framed, way in batches:
            for wire in way.wires:
                parts = together.get(wire)
                if parts is None:
                    together[wire] = [framed]
                else:
                    parts.append(framed)
        for wire, parts in together.items():
            wire.send(parts[0] if len(parts) == 1 else b"".join(parts))


def ways(wires: Iterable[Wire]) -> list[tuple[Spelling, Way]]:
    """The wires, sorted by how they want things spelled."""
    sorted_out: dict[Spelling, list[Wire]] = {}
    for wire in wires:
        sorted_out.setdefault(wire.spelling, []).append(wire)
    return [(spelling, Way(group)) for spelling, group in sorted_out.items()]


def spelled(frames: Sequence[SharedFrame], spelling: Spelling) -> bytes | None:
    """The frames as one run of bytes. None when this spelling has no room for what is in them (an integer of more than
    64 bits in MessagePack): that must cost nobody but those who asked for it."""
    try:
        return b"".join([_framed(shared, spelling) for shared in frames])
    except Exception as error:
        log.error("frames can't be spelled as %s: %s", spelling.format.value, type(error).__name__)
        return None


def _framed(shared: SharedFrame, spelling: Spelling) -> bytes:
    data = shared.wire.get(spelling)
    if data is None:
        data = shared.wire[spelling] = frame_message(shared.encoded(spelling.format), spelling)
    return data


def frame_message(payload: bytes, spelling: Spelling) -> bytes:
    """One unfragmented, unmasked WebSocket message (RFC 6455, section 5.2), compressed (RFC 7692, section 7.2.1) where
    that was agreed on and pays."""
    opcode = _OPCODE[spelling.format]
    if spelling.compressed and len(payload) >= LEAST_COMPRESSED:
        # Level 1: on JSON of this kind, the higher ones take twice the time for a tenth less.
        deflater = zlib.compressobj(1, zlib.DEFLATED, -WINDOW_BITS, 8)
        payload = deflater.compress(payload) + deflater.flush(zlib.Z_SYNC_FLUSH)[:-4]
        opcode |= _COMPRESSED
    length = len(payload)
    if length < 126:
        return bytes((opcode, length)) + payload
    if length < 65536:
        return bytes((opcode, 126)) + length.to_bytes(2, "big") + payload
    return bytes((opcode, 127)) + length.to_bytes(8, "big") + payload


WINDOW_BITS = 12
"""A window of 4 KB: whoever inflates needs no more memory than that for each connection."""
