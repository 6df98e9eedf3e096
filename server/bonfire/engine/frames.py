"""Frames on their way out, encoded once whatever the number of those who get them."""

from bonfire_protocol.codec import Format, encode
from bonfire_protocol.down import DownFrame


class SharedFrame:
    """A frame and its bytes, one spelling per format, made on first demand and then shared.

    `wire` is a place for the transport to keep what it makes of the bytes (its own framing, compressed or not), so that
    this too is done once.
    """

    __slots__ = ("_encoded", "frame", "wire")

    def __init__(self, frame: DownFrame) -> None:
        self.frame = frame
        self._encoded: dict[Format, bytes] = {}
        self.wire: dict[object, bytes] = {}

    def encoded(self, format: Format) -> bytes:
        data = self._encoded.get(format)
        if data is None:
            data = self._encoded[format] = encode(self.frame, format)
        return data
