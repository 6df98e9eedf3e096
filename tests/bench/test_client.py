"""A load counts each row once, wherever a read ends, and answers pings."""

import asyncio

import pytest

from bench.client import Counter, Live, Plain
from bench.dialects import DIALECTS, ROW, message, stamp

ROWS = b"".join(b'{"id":"a",' + ROW + stamp(number).encode() + b'","text":"xx"}' for number in (7, 8, 12))


class Written(asyncio.Transport):
    """Keeps what is written."""

    def __init__(self) -> None:
        super().__init__()
        self.data = b""

    def write(self, data: object) -> None:
        assert isinstance(data, bytes)
        self.data += data


@pytest.mark.parametrize("cut", range(len(ROWS) + 1))
async def test_a_row_is_counted_once_wherever_a_read_ends(cut: int) -> None:
    counter = Counter()
    counter.arrivals = []
    connection = Plain(counter)

    for part in (ROWS[:cut], ROWS[cut:]):
        if part:
            connection.data_received(part)

    assert counter.rows == 3
    assert [number for number, _ in counter.arrivals] == [7, 8, 12]


async def test_where_results_come_whole_their_first_row_is_the_news() -> None:
    counter = Counter(DIALECTS["requery"].news)
    counter.arrivals = []
    rows = b'{"type":"rows","rows":[{' + ROW + b'000000009"},{' + ROW + b'000000008"}]}'

    Plain(counter).data_received(rows + rows)

    assert [number for number, _ in counter.arrivals] == [9, 9]


async def test_the_wait_ends_when_each_connection_has_the_last_row() -> None:
    counter = Counter()
    first, second = Plain(counter), Plain(counter)
    counter.expect_last(12, connections=2)
    waiting = asyncio.ensure_future(counter.wait(timeout=10))

    first.data_received(ROWS)
    first.data_received(ROWS)
    await asyncio.sleep(0)
    assert not waiting.done()

    second.data_received(ROWS)
    await waiting


async def test_the_wait_ends_when_as_many_rows_have_come() -> None:
    counter = Counter()
    Plain(counter).data_received(ROWS)

    counter.expect_rows(3)
    await asyncio.wait_for(counter.wait(timeout=60), 1)


async def test_a_client_is_up_when_all_its_queries_are_live_and_their_transition_has_come() -> None:
    transport = Written()
    client = Live(Counter(), DIALECTS["bonfire"], ["p1", "p2"])
    client.connection_made(transport)
    client.data_received(b"HTTP/1.1 101 Switching Protocols\r\n\r\n")
    assert transport.data.count(b'"type":"subscribe"') == 2

    client.data_received(b'{"type":"subscribed"}{"type":"transition"}{"type":"subscribed","rows":[{' + ROW)
    client.data_received(b'000000001"}]}')
    assert not client.up.done()

    client.data_received(b'{"type":"transition"}')
    assert await client.up == 1


async def test_a_server_that_takes_no_websocket_is_said_to() -> None:
    client = Live(Counter(), DIALECTS["push"], ["p1"])
    client.connection_made(Written())

    client.data_received(b"HTTP/1.1 404 Not Found\r\n\r\n")

    with pytest.raises(ConnectionError):
        await client.up


async def test_pings_are_answered() -> None:
    transport = Written()
    client = Live(Counter(), DIALECTS["push"], [])
    client.connection_made(transport)
    client.data_received(b"HTTP/1.1 101 Switching Protocols\r\n\r\n")
    transport.data = b""

    client.data_received(ROWS + b"\x89\x04ping" + ROWS)

    assert transport.data == b"\x8a\x84\0\0\0\0ping"


@pytest.mark.parametrize("length", [5, 125, 126, 300])
def test_messages_of_a_client_are_framed_as_their_length_asks(length: int) -> None:
    framed = message(b"x" * length)

    assert framed[:2] == bytes((0x81, 0x80 | min(length, 126)))
    assert framed[-length:] == b"x" * length
    assert len(framed) == length + (6 if length < 126 else 8)
