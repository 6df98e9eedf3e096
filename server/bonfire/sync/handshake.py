"""The opening handshake of a WebSocket (RFC 6455, section 4.2), from headers that HTTP has parsed already.

`websockets` has one too, which takes the request's bytes and parses them again: a third of what a connection costs when
a whole clinic comes back at once. The rules are the same, and the tests hold the two against each other.
"""

import binascii
from base64 import b64decode
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus

from websockets.exceptions import InvalidHeader, NegotiationError
from websockets.extensions import Extension
from websockets.extensions.permessage_deflate import ServerPerMessageDeflateFactory
from websockets.headers import (
    build_extension,
    parse_connection,
    parse_extension,
    parse_subprotocol,
    parse_upgrade,
)
from websockets.typing import Subprotocol
from websockets.utils import accept_key

from bonfire.sync.fanout import WINDOW_BITS
from bonfire_protocol.version import JSON_SUBPROTOCOL, MSGPACK_SUBPROTOCOL

_SUBPROTOCOLS = (MSGPACK_SUBPROTOCOL, JSON_SUBPROTOCOL)
_DEFLATE = ServerPerMessageDeflateFactory(
    # Without context between messages, so that the same compressed bytes fit every connection, and none holds memory.
    server_no_context_takeover=True,
    client_no_context_takeover=True,
    server_max_window_bits=WINDOW_BITS,
    compress_settings={"memLevel": 5},
)


@dataclass(frozen=True)
class Upgrade:
    """A request to speak WebSocket. Header names are in lower case; a header that came several times has its values
    joined by commas. `address`: the peer's."""

    method: str
    path: str
    headers: Mapping[str, str]
    address: str | None = None

    @classmethod
    def of(
        cls, method: str, target: bytes, headers: Iterable[tuple[bytes, bytes]], address: str | None = None
    ) -> "Upgrade":
        """From HTTP's own spelling, names in lower case."""
        together: dict[str, str] = {}
        for raw_name, raw_value in headers:
            name, value = raw_name.decode("latin-1"), raw_value.decode("latin-1")
            together[name] = f"{together[name]}, {value}" if name in together else value
        return cls(method, target.partition(b"?")[0].decode("latin-1"), together, address)


@dataclass(frozen=True)
class Accepted:
    """`response` is to be sent; then frames follow."""

    response: bytes
    subprotocol: str | None
    extensions: list[Extension]


@dataclass(frozen=True)
class Refused:
    """No WebSocket: `response` is to be sent, and the connection closed."""

    status: HTTPStatus
    response: bytes


def shake_hands(upgrade: Upgrade, *, compress: bool) -> Accepted | Refused:
    """The answer to an upgrade. A client that offers no subprotocol of ours is answered without one."""
    headers = upgrade.headers
    if upgrade.method != "GET":
        return refused(HTTPStatus.METHOD_NOT_ALLOWED, "a WebSocket begins with GET\n", ("Allow", "GET"))
    if not _asks_for_websocket(headers):
        return refused(HTTPStatus.UPGRADE_REQUIRED, "speak WebSocket here\n", ("Upgrade", "websocket"))
    key = headers.get("sec-websocket-key", "")
    if not _is_key(key):
        return refused(HTTPStatus.BAD_REQUEST, "Sec-WebSocket-Key: expected 16 bytes in base64\n")
    if headers.get("sec-websocket-version") != "13":
        return refused(HTTPStatus.BAD_REQUEST, "Sec-WebSocket-Version: expected 13\n", ("Sec-WebSocket-Version", "13"))
    lines = ["HTTP/1.1 101 Switching Protocols", "Upgrade: websocket", "Connection: Upgrade"]
    lines.append(f"Sec-WebSocket-Accept: {accept_key(key)}")
    extensions: list[Extension] = []
    offered = headers.get("sec-websocket-extensions")
    if compress and offered is not None:
        try:
            agreed = _agree(offered, extensions)
        except InvalidHeader:
            return refused(HTTPStatus.BAD_REQUEST, "Sec-WebSocket-Extensions: expected a list of extensions\n")
        if agreed:
            lines.append(f"Sec-WebSocket-Extensions: {agreed}")
    named: list[Subprotocol] = []
    if "sec-websocket-protocol" in headers:
        try:
            named = parse_subprotocol(headers["sec-websocket-protocol"])
        except InvalidHeader:
            return refused(HTTPStatus.BAD_REQUEST, "Sec-WebSocket-Protocol: expected a list of names\n")
    subprotocol = next((known for known in _SUBPROTOCOLS if known in named), None)
    if subprotocol is not None:
        lines.append(f"Sec-WebSocket-Protocol: {subprotocol}")
    return Accepted("\r\n".join([*lines, "", ""]).encode("latin-1"), subprotocol, extensions)


def refused(status: HTTPStatus, text: str, *more: tuple[str, str]) -> Refused:
    """A refusal with its reason as the body."""
    body = text.encode()
    headers: Sequence[tuple[str, str]] = [
        *more,
        ("Content-Type", "text/plain; charset=utf-8"),
        ("Content-Length", str(len(body))),
        ("Connection", "close"),
    ]
    head = "".join(f"{name}: {value}\r\n" for name, value in headers)
    return Refused(status, f"HTTP/1.1 {status.value} {status.phrase}\r\n{head}\r\n".encode("latin-1") + body)


def _agree(offered: str, extensions: list[Extension]) -> str | None:
    """The first offer of compression that can be taken; it is added to `extensions`."""
    for name, parameters in parse_extension(offered):
        if name != _DEFLATE.name:
            continue
        try:
            answer, extension = _DEFLATE.process_request_params(parameters, extensions)
        except NegotiationError:
            continue
        extensions.append(extension)
        return build_extension([(name, answer)])
    return None


def _asks_for_websocket(headers: Mapping[str, str]) -> bool:
    try:
        connection = parse_connection(headers.get("connection", ""))
        upgrade = parse_upgrade(headers.get("upgrade", ""))
    except InvalidHeader:
        return False
    return any(one.lower() == "upgrade" for one in connection) and [one.lower() for one in upgrade] == ["websocket"]


def _is_key(key: str) -> bool:
    try:
        return len(b64decode(key, validate=True)) == 16
    except (binascii.Error, ValueError):
        return False
