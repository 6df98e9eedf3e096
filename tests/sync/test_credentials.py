"""When the end of a token is told, and that it is enforced: by the clock that tokens are judged by."""

import asyncio
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime

import pytest

from bonfire.sync.credentials import AHEAD_SECONDS, Credentials
from bonfire_protocol.down import DownFrame, Expiring

START = 1_800_000_000


class Held:
    """Credentials with a clock of the test's, which goes with the loop's but for `skew` seconds. What is ahead is told
    0.2 seconds ahead."""

    def __init__(self) -> None:
        self._begun = asyncio.get_running_loop().time()
        self.skew = 0.0
        self.told: list[DownFrame] = []
        self.ended = 0
        self.credentials = Credentials(self.now, self.told.append, self.expire)

    def now(self) -> datetime:
        passed = asyncio.get_running_loop().time() - self._begun
        return datetime.fromtimestamp(START + passed + self.skew, UTC)

    def expire(self) -> None:
        self.ended += 1


@pytest.fixture
async def held() -> AsyncIterator[Held]:
    made = Held()
    yield made
    made.credentials.drop()


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bonfire.sync.credentials.AHEAD_SECONDS", 0.2)


async def until(ready: Callable[[], object]) -> None:
    async with asyncio.timeout(5):
        while not ready():
            await asyncio.sleep(0.005)


async def test_what_is_left_of_a_token(held: Held) -> None:
    assert held.credentials.left(None) is None
    left = held.credentials.left(START + 10)
    assert left is not None
    assert 9.5 < left <= 10


async def test_a_token_that_never_ends_is_held_in_silence(held: Held) -> None:
    held.credentials.hold(None)
    await asyncio.sleep(0.05)
    assert (held.told, held.ended) == ([], 0)


async def test_the_end_is_told_ahead_and_enforced(held: Held, quick: None) -> None:
    held.credentials.hold(START + 1)
    await asyncio.sleep(0.4)
    assert held.told == []
    await until(lambda: held.told)
    (told,) = held.told
    assert isinstance(told, Expiring)
    assert 0 < told.in_ms <= 210
    assert held.ended == 0
    await until(lambda: held.ended)
    assert held.now().timestamp() >= START + 1 - 0.01
    assert len(held.told) == 1


async def test_a_token_that_ends_soon_is_told_so_at_once(held: Held) -> None:
    held.credentials.hold(START + int(AHEAD_SECONDS) - 10)
    await until(lambda: held.told)
    (told,) = held.told
    assert isinstance(told, Expiring)
    assert 49_000 < told.in_ms <= 50_000


async def test_a_token_that_has_ended_is_not_held_for_a_moment(held: Held) -> None:
    held.credentials.hold(START - 100)
    await until(lambda: held.ended)
    assert held.told == [Expiring(0)]


async def test_a_new_token_takes_the_place_of_the_old_one(held: Held, quick: None) -> None:
    held.credentials.hold(START + 1)
    await until(lambda: held.told)
    held.credentials.hold(START + 1000)
    await asyncio.sleep(0.4)
    assert (len(held.told), held.ended) == (1, 0)


async def test_what_is_dropped_ends_in_silence(held: Held) -> None:
    held.credentials.hold(START - 100)
    held.credentials.drop()
    held.credentials.drop()
    await asyncio.sleep(0.05)
    assert (held.told, held.ended) == ([], 0)


async def test_a_clock_that_was_set_back_before_the_word_gives_the_token_its_time(held: Held, quick: None) -> None:
    held.credentials.hold(START + 1)
    held.skew = -1000.0
    await asyncio.sleep(1.2)
    assert (held.told, held.ended) == ([], 0)
    held.skew = 0.0
    held.credentials.hold(START + 1)
    await until(lambda: held.ended)


async def test_a_clock_that_was_set_back_after_the_word_gives_the_token_its_time(held: Held) -> None:
    held.credentials.hold(START + 1)
    await until(lambda: held.told)
    held.skew = -30.0
    await until(lambda: len(held.told) == 2)
    assert held.ended == 0
    assert isinstance(held.told[1], Expiring)
    assert 29_000 < held.told[1].in_ms < 30_500, "it is told anew how long it has"
