"""Processes that show each other's numbers: also when one is gone, hangs, or is being replaced."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest

from bonfire.telemetry import siblings
from bonfire.telemetry.families import Family, Sample
from bonfire.telemetry.siblings import Siblings


def family(value: float) -> Family:
    return Family("bonfire_connections", "Open.", "gauge", [Sample("bonfire_connections", {}, value)])


def names(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()]


@asynccontextmanager
async def process(folder: Path, number: int, value: float, count: int = 2) -> AsyncIterator[Siblings]:
    async def own() -> Sequence[Family]:
        return [family(value)]

    made = Siblings(folder, number, count, own)
    await made.start()
    try:
        yield made
    finally:
        await made.stop()


async def test_whoever_is_asked_tells_of_all(tmp_path: Path) -> None:
    async with process(tmp_path, 0, 10) as first, process(tmp_path, 1, 20) as second:
        both = {0: [family(10)], 1: [family(20)]}
        assert await first.pages() == both
        assert await second.pages() == both


async def test_one_that_is_gone_is_told_to_be(tmp_path: Path) -> None:
    async with process(tmp_path, 0, 10) as first:
        assert await first.pages() == {0: [family(10)], 1: None}
        async with process(tmp_path, 1, 20):
            assert (await first.pages())[1] == [family(20)]
        assert await first.pages() == {0: [family(10)], 1: None}
    assert names(tmp_path) == []


async def test_the_socket_of_one_that_was_killed_is_nothing_to_wait_for(tmp_path: Path) -> None:
    async with process(tmp_path, 0, 10) as first, AsyncExitStack() as stack:
        killed = await stack.enter_async_context(process(tmp_path, 1, 20))
        assert killed._server is not None
        killed._server.close()
        assert (tmp_path / "worker-1.sock").exists()
        assert (await first.pages())[1] is None
        async with process(tmp_path, 1, 30):
            assert (await first.pages())[1] == [family(30)]


async def test_one_that_hangs_holds_nobody_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(siblings, "PATIENCE", 0.05)
    never = asyncio.Event()

    async def hangs() -> Sequence[Family]:
        await never.wait()
        return []

    hanging = Siblings(tmp_path, 1, 2, hangs)
    await hanging.start()
    async with process(tmp_path, 0, 10) as first:
        async with asyncio.timeout(5):
            assert await first.pages() == {0: [family(10)], 1: None}
    never.set()
    await hanging.stop()


async def test_a_new_one_takes_the_place_of_an_old_one_that_is_still_at_work(tmp_path: Path) -> None:
    async with process(tmp_path, 0, 10) as first, process(tmp_path, 1, 30) as fresh:
        del fresh
        old = process(tmp_path, 1, 20)
        await old.__aenter__()
        async with process(tmp_path, 1, 40):
            assert (await first.pages())[1] == [family(40)]
            await old.__aexit__(None, None, None)
            assert (await first.pages())[1] == [family(40)]


async def test_one_whose_numbers_fail_is_told_to_be_gone(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def fails() -> Sequence[Family]:
        raise RuntimeError("what nobody thought of")

    failing = Siblings(tmp_path, 1, 2, fails)
    await failing.start()
    async with process(tmp_path, 0, 10) as first:
        assert (await first.pages())[1] is None
    await failing.stop()
    assert "could not be told" in caplog.text
