"""The handshake beside that of `websockets`: what one accepts, the other does, and says the same."""

import logging
from typing import Any

import pytest
from websockets.extensions.permessage_deflate import ServerPerMessageDeflateFactory
from websockets.http11 import Response
from websockets.server import ServerProtocol
from websockets.streams import StreamReader

from bonfire.sync.handshake import Accepted, Refused, Upgrade, shake_hands
from bonfire_protocol.version import JSON_SUBPROTOCOL, MSGPACK_SUBPROTOCOL

GOOD = {
    "Host": "clinic.example",
    "Upgrade": "websocket",
    "Connection": "keep-alive, Upgrade",
    "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
    "Sec-WebSocket-Version": "13",
}
CASES: dict[str, dict[str, str | None]] = {
    "plain": {},
    "upper case": {"Upgrade": "WebSocket", "Connection": "UPGRADE"},
    "no upgrade": {"Upgrade": None},
    "another upgrade": {"Upgrade": "h2c"},
    "two upgrades": {"Upgrade": "h2c, websocket"},
    "no connection": {"Connection": None},
    "connection without upgrade": {"Connection": "keep-alive"},
    "no key": {"Sec-WebSocket-Key": None},
    "a short key": {"Sec-WebSocket-Key": "c2hvcnQ="},
    "a key that is none": {"Sec-WebSocket-Key": "%%%"},
    "two keys": {"Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==, dGhlIHNhbXBsZSBub25jZQ=="},
    "an old version": {"Sec-WebSocket-Version": "8"},
    "no version": {"Sec-WebSocket-Version": None},
    "compression": {"Sec-WebSocket-Extensions": "permessage-deflate; client_max_window_bits"},
    "compression, a smaller window": {"Sec-WebSocket-Extensions": "permessage-deflate; server_max_window_bits=10"},
    "compression that is not understood, and another": {
        "Sec-WebSocket-Extensions": "permessage-deflate; nonsense=1, permessage-deflate"
    },
    "another extension": {"Sec-WebSocket-Extensions": "x-webkit-something"},
    "extensions that are none": {"Sec-WebSocket-Extensions": "@@@"},
    "our JSON": {"Sec-WebSocket-Protocol": JSON_SUBPROTOCOL},
    "both of ours": {"Sec-WebSocket-Protocol": f"{JSON_SUBPROTOCOL}, {MSGPACK_SUBPROTOCOL}"},
    "somebody else's": {"Sec-WebSocket-Protocol": "graphql-ws"},
}


def theirs(headers: dict[str, str]) -> Response:
    protocol = ServerProtocol(
        extensions=[
            ServerPerMessageDeflateFactory(
                server_no_context_takeover=True, client_no_context_takeover=True, server_max_window_bits=12
            )
        ],
        subprotocols=[MSGPACK_SUBPROTOCOL, JSON_SUBPROTOCOL],  # type: ignore[list-item]  # a NewType of str
        select_subprotocol=_select,
        logger=logging.getLogger("test"),
    )
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    protocol.receive_data(f"GET /live HTTP/1.1\r\n{lines}\r\n".encode())
    (request,) = protocol.events_received()
    return protocol.accept(request)  # type: ignore[arg-type]  # the only event is the request


def _select(protocol: Any, offered: Any) -> Any:
    return next((known for known in (MSGPACK_SUBPROTOCOL, JSON_SUBPROTOCOL) if known in offered), None)


def parsed(response: bytes) -> Response:
    reader = StreamReader()
    reader.feed_data(response)
    reader.feed_eof()
    parsing = Response.parse(reader.read_line, reader.read_exact, reader.read_to_eof)
    try:
        next(parsing)
    except StopIteration as done:
        found: Response = done.value
        return found
    raise AssertionError("the response is not whole")


@pytest.mark.parametrize("case", CASES)
def test_the_answer_is_that_of_the_library(case: str) -> None:
    headers = {name: value for name, value in {**GOOD, **CASES[case]}.items() if value is not None}
    upgrade = Upgrade.of("GET", b"/live?a=b", [(n.lower().encode(), v.encode()) for n, v in headers.items()])
    ours, expected = shake_hands(upgrade, compress=True), theirs(headers)
    told = parsed(ours.response)
    assert told.status_code == expected.status_code
    if isinstance(ours, Accepted):
        for name in ("Sec-WebSocket-Accept", "Sec-WebSocket-Extensions", "Sec-WebSocket-Protocol", "Upgrade"):
            assert told.headers.get(name) == expected.headers.get(name), name
        assert ours.subprotocol == expected.headers.get("Sec-WebSocket-Protocol")


def test_other_methods_are_refused_with_the_right_one() -> None:
    answer = shake_hands(Upgrade("POST", "/live", {}), compress=True)
    assert isinstance(answer, Refused)
    assert answer.status == 405
    assert b"Allow: GET" in answer.response


def test_without_compression_none_is_agreed_on() -> None:
    headers = {name.lower(): value for name, value in GOOD.items()}
    headers["sec-websocket-extensions"] = "permessage-deflate"
    answer = shake_hands(Upgrade("GET", "/live", headers), compress=False)
    assert isinstance(answer, Accepted)
    assert answer.extensions == []


def test_a_header_that_came_twice_counts_as_one() -> None:
    upgrade = Upgrade.of("GET", b"/live", [(b"x", b"1"), (b"x", b"2")])
    assert upgrade.headers == {"x": "1, 2"}
