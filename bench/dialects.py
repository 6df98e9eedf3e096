"""What a client says to a server and looks for in its answers: bonfire's frames, and those of the rivals.

A row carries `"stamp":"000000042"`, the number of the write that made it. A client looks for stamps in the bytes and
parses nothing else: it must cost as little as it can, and the same beside every server.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass

import msgspec

from bench.rows import QUERY
from bonfire_protocol.codec import encode
from bonfire_protocol.up import Hello, Subscribe

DIGITS = 9


def stamp(number: int) -> str:
    return f"{number:0{DIGITS}}"


@dataclass(frozen=True)
class Dialect:
    """`path` of the socket; `hello`: bytes sent first. A subscription is answered by a message that holds `live`; it
    holds when `end` has come after it. `news` stands before the stamp of a row that is news: where whole results
    come, that is their first row."""

    path: str
    hello: bytes
    subscribe: Callable[[str], bytes]
    live: bytes
    end: bytes
    news: bytes


ROW = b'"stamp":"'


def message(payload: bytes) -> bytes:
    """A masked text message, as clients must send it; the mask of zeros changes nothing."""
    length = len(payload)
    head = bytes((0x81, 0x80 | length)) if length < 126 else bytes((0x81, 0xFE)) + length.to_bytes(2, "big")
    return head + b"\0\0\0\0" + payload


def _subscribe_bonfire(key: str) -> bytes:
    return message(encode(Subscribe(key, QUERY, msgspec.Raw(json.dumps({"patient": key}).encode()))))


def _subscribe_rival(key: str) -> bytes:
    return message(json.dumps({"patient": key}).encode())


DIALECTS = {
    "bonfire": Dialect(
        "/live", message(encode(Hello())), _subscribe_bonfire, b'"type":"subscribed"', b'"type":"transition"', ROW
    ),
    "push": Dialect("/", b"", _subscribe_rival, b'"type":"rows"', b"]}", ROW),
    "requery": Dialect("/", b"", _subscribe_rival, b'"type":"rows"', b"]}", b'"rows":[{' + ROW),
}
