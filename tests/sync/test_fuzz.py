"""Hostile peers: any bytes, any headers, any order of frames, cut anywhere.

Each example has a node of its own and a bystander on it, who must be served whatever the others do. And what is kept to
make sending cheap changes nothing of what is sent.
"""

import asyncio
import logging
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bonfire.engine.commit import Message
from bonfire.engine.delivery import Outgoing
from bonfire.engine.session import Session
from bonfire.sync.endpoint import Limits
from bonfire.sync.handshake import Accepted, Upgrade, shake_hands
from bonfire.sync.subscribing import MOST_ARGS_BYTES
from bonfire_protocol.codec import Format, decode_up
from bonfire_protocol.down import Pong, Watermark
from bonfire_protocol.faults import Fault
from bonfire_protocol.version import MSGPACK_SUBPROTOCOL
from engine.test_live_simulation import Client, World
from support.hostile import (
    HELLO,
    SUBSCRIBE,
    masked,
    rest,
    running,
    said,
)
from sync.test_handshake import GOOD, theirs

EXAMPLES = settings(
    deadline=None, database=None, derandomize=True, suppress_health_check=list(HealthCheck), print_blob=False
)

FRAMES = [
    HELLO,
    b'{"type":"hello","tenant":"t","position":"0/64","stream":"x"}',
    b'{"type":"hello","position":"FFFFFFFF/FFFFFFFF"}',
    b'{"type":"hello","protocol":-1}',
    SUBSCRIBE % b"a",
    SUBSCRIBE % b"b",
    SUBSCRIBE % ("\u00fc\U0001f525" * 40).encode(),
    SUBSCRIBE % (b"x" * 129),
    b'{"type":"subscribe","id":"a","query":"rows.list","resume":true,"args":{"patientId":"p"}}',
    b'{"type":"subscribe","id":"c","query":"rows.list","args":{"patientId":1e400}}',
    b'{"type":"subscribe","id":"c","query":"rows.list","args":{"patientId":"' + b"p" * 2 * MOST_ARGS_BYTES + b'"}}',
    b'{"type":"subscribe","id":"c","query":"rows.list","args":' + b"[" * 2000 + b"]" * 2000 + b"}",
    b'{"type":"unsubscribe","id":"a"}',
    b'{"type":"unsubscribe","id":"b"}',
    b'{"type":"check","id":"k","subscription":"a"}',
    b'{"type":"query","id":"q","query":"rows.list","args":{"patientId":"p"}}',
    b'{"type":"mutate","id":"m","mutation":"rows.add","args":{"text":"x"}}',
    b'{"type":"mutate","id":"n","mutation":"rows.add"}',
    b'{"type":"ping","id":"\\ud83d\\ude00"}',
    b'{"type":"ping","id":"\\ud800"}',
    b'{"type":"\xed\xa0\x80"}',
    b"[" * 100_000,
    b'{"id":' + b"9" * 5000 + b"}",
    b"\x00\xff",
    b"",
    msgspec.msgpack.encode({"type": "hello"}),
    msgspec.msgpack.encode({"type": msgspec.msgpack.Ext(5, b"x")}),
    b"\x81\xc0\x01",
    b"\x91" * 5000,
]
CONTROLS = [
    masked(9, b"are you there?"),
    masked(10, b""),
    masked(9, b"x" * 126),
    masked(9, b"", fin=False),
    masked(8, b""),
    masked(8, b"\x03\xe8bye"),
    masked(8, b"\x03"),
    masked(8, b"\x00\x01"),
    masked(8, b"\x03\xe8\xff\xfe"),
    masked(3, b"no such opcode"),
    masked(0, b"of nothing"),
    masked(1, b"compressed, it says", rsv1=True),
    b"\x81\x02hi",
    b"\x82\xff" + b"\xff" * 8 + bytes(4),
]
messages = st.sampled_from(FRAMES).map(lambda payload: masked(1, payload))
fragments = st.tuples(st.sampled_from(FRAMES), st.integers(0, 40), st.integers(0, 3)).map(
    lambda cut: (
        masked(1, cut[0][: cut[1]], fin=False) + masked(0, b"", fin=False) * cut[2] + masked(0, cut[0][cut[1] :])
    )
)
peer_steps = st.one_of(messages, messages, messages, fragments, st.sampled_from(CONTROLS), st.binary(max_size=30))
node_steps = st.sampled_from(
    ["commit", "own", "rest", "down", "gap", "up", "slow", "fast", "eof", "lost", "drain", "tend"]
)
schedules = st.lists(st.one_of(peer_steps, peer_steps, node_steps), max_size=25)


async def attack(steps: list[bytes | str], pieces: int, format: Format) -> None:
    async with running(Limits(subscriptions=2, mutations_waiting=2, catch_up_seconds=0.001, frames_at_once=30)) as node:
        node.reader.bounds.extend([1000] * 50)
        bystander, heard = node.connect()
        bystander.data_received(masked(1, HELLO) + masked(1, SUBSCRIBE % b"mine"))
        spoken = [(b"sec-websocket-protocol", MSGPACK_SUBPROTOCOL.encode())] if format is Format.msgpack else []
        protocol, transport = node.connect(*spoken)
        for step in steps:
            match step:
                case bytes():
                    for at in range(0, len(step), max(1, len(step) // pieces)):
                        if not transport.over:
                            protocol.data_received(step[at : at + max(1, len(step) // pieces)])
                case "commit":
                    node.commit(Message("t", "Patient", ["p"]))
                case "own":
                    node.commit(Message("t", "Patient", None, mutation="m"))
                case "down":
                    node.hub.down("cut")
                case "gap":
                    node.hub.gap("lost")
                case "up":
                    node.hub.up(node.position)
                case "slow" if not transport.over:
                    transport.takes = False
                    protocol.pause_writing()
                case "fast" if not transport.over:
                    transport.takes, transport.unread = True, 0
                    protocol.resume_writing()
                case "eof" if not transport.over:
                    protocol.eof_received()
                    transport.close()
                case "lost":
                    transport.abort()
                case "drain":
                    protocol.shutdown()
                case "tend":
                    for connection in list(node.live.connections):
                        connection.tend(10.0)
                case _:
                    await rest()
        node.hub.up(node.position)
        bystander.data_received(masked(1, b'{"type":"ping","id":"still here"}'))
        await rest(20)
        answers = said(heard)
        assert any(isinstance(one, Pong) and one.id == "still here" for one in answers)
        said(transport, format)
        for one in (transport, heard):
            one.abort()
        async with asyncio.timeout(5):
            while node.live.connections or node.hub._reads or node.hub._mutations or len(asyncio.all_tasks()) > 4:
                await asyncio.sleep(0)
        assert not node.server_state.connections
        counts = node.hub.engine.counts
        assert (counts["sessions"], counts["live_queries"], counts["reads_owed"]) == (0, 0, 0)
        assert not node.hub.engine.checks._askers
        assert not node.hub.flusher.clogged
        assert not node.hub.flusher.behind


@pytest.fixture
def runner() -> Iterator[asyncio.Runner]:
    logging.getLogger("bonfire").setLevel(logging.CRITICAL)
    with asyncio.Runner() as made:
        yield made
    logging.getLogger("bonfire").setLevel(logging.NOTSET)


@pytest.mark.parametrize("format", Format)
def test_any_order_of_frames_and_events_costs_nobody_else_anything(runner: asyncio.Runner, format: Format) -> None:
    @settings(EXAMPLES, max_examples=150)
    @given(schedules, st.integers(1, 5))
    def fuzz(steps: list[bytes | str], pieces: int) -> None:
        runner.run(attack([masked(1, HELLO), *steps], pieces, format))

    fuzz()


def test_any_bytes_behind_the_handshake(runner: asyncio.Runner) -> None:
    @settings(EXAMPLES, max_examples=150)
    @given(st.lists(st.binary(max_size=200), max_size=5), st.booleans())
    def fuzz(chunks: list[bytes], welcome: bool) -> None:
        runner.run(attack([masked(1, HELLO), *chunks] if welcome else [*chunks], 1, Format.json))

    fuzz()


@settings(EXAMPLES, max_examples=400)
@given(st.binary(max_size=300), st.sampled_from(Format))
def test_any_bytes_are_a_frame_or_a_fault(data: bytes, format: Format) -> None:
    try:
        decode_up(data, format)
    except Fault:
        pass


tokens = st.sampled_from(
    """websocket|WebSocket|Upgrade|upgrade, keep-alive|h2c|13|8| |,||;|=|"|\\|@|\t|\xe9|a b|permessage-deflate
|permessage-deflate; server_max_window_bits=8|client_max_window_bits=99|server_no_context_takeover
|dGhlIHNhbXBsZSBub25jZQ==|bonfire.v3.json|bonfire.v3.msgpack""".replace("\n", "").split("|")
)
values = st.one_of(
    st.lists(tokens, max_size=4).map(", ".join),
    st.lists(tokens, max_size=4).map("; ".join),
    st.text(st.characters(min_codepoint=32, max_codepoint=255), max_size=20),
).map(str.strip)
changes = st.dictionaries(st.sampled_from([*GOOD, "Sec-WebSocket-Extensions", "Sec-WebSocket-Protocol"]), values)


@settings(EXAMPLES, max_examples=600)
@given(changes, st.sets(st.sampled_from(list(GOOD)), max_size=1))
def test_any_headers_are_answered_and_taken_only_where_the_library_takes_them(
    changed: dict[str, str], missing: set[str]
) -> None:
    headers = {name: value for name, value in {**GOOD, **changed}.items() if name not in missing}
    upgrade = Upgrade.of("GET", b"/live", [(name.lower().encode(), v.encode("latin-1")) for name, v in headers.items()])
    ours = shake_hands(upgrade, compress=True)
    if isinstance(ours, Accepted):
        assert theirs(headers).status_code == 101


@settings(EXAMPLES, max_examples=200)
@given(st.binary(max_size=30), st.lists(st.tuples(st.binary(max_size=20), st.binary(max_size=30)), max_size=6))
def test_headers_of_any_bytes_are_answered(target: bytes, headers: list[tuple[bytes, bytes]]) -> None:
    assert shake_hands(Upgrade.of("GET", target, headers), compress=True).response.startswith(b"HTTP/1.1 4")


# ---- audiences: kept, or made anew each time ------------------------------------------------------------------------


class Crowd(World):
    """Hundreds of sessions, most of which hold the same few queries."""

    def __init__(self, seed: int, *, made_anew: bool) -> None:
        super().__init__(seed)
        self.told: dict[int, list[bytes]] = {}
        self.numbers: dict[Session, int] = {}
        engine: Any = self.engine
        take, fan_out = engine.take_outgoing, engine._delivery.fan_out

        def took() -> list[Outgoing]:
            outgoing: list[Outgoing] = take()
            for one in outgoing:
                # When watermarks are due is counted for an audience as long as it is kept.
                frames = [shared for shared in one.frames if not isinstance(shared.frame, Watermark)]
                told = [shared.encoded(Format.json) for shared in frames]
                for session in one.audience.sessions:
                    self.told.setdefault(self.numbers[session], []).extend(told)
            return outgoing

        def fanned_out(changed: Any, position: int) -> None:
            for query in changed:
                query.audience = None
            fan_out(changed, position)

        engine.take_outgoing = took
        if made_anew:
            engine._delivery.fan_out = fanned_out

    def join(self) -> None:
        for _ in range(60 if len(self.clients) < 200 else 0):
            session = self.engine.join(object(), self.random.choice("ttu"))
            self.clients.append(Client(session))
        self._number()

    def come_back(self) -> None:
        super().come_back()
        self._number()

    def subscribe(self) -> None:
        for _ in range(20):
            super().subscribe()

    def _number(self) -> None:
        for client in self.clients:
            self.numbers.setdefault(client.session, len(self.numbers))


@pytest.mark.parametrize("seed", range(6))
def test_audiences_that_are_kept_are_told_the_same_as_those_made_anew(seed: int) -> None:
    kept, anew = Crowd(seed, made_anew=False), Crowd(seed, made_anew=True)
    for crowd in (kept, anew):
        crowd.join()
        crowd.subscribe()
        crowd.run(150)
    assert len(kept.numbers) > 60
    assert kept.told == anew.told
