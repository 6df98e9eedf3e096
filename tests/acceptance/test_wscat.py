"""The README's session by hand, run line by line: what it says comes, comes."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection, connect

from acceptance.conftest import ROOT, Running

pytestmark = pytest.mark.acceptance


def session(page: Path) -> list[tuple[str, str]]:
    """The lines of the page's `wscat` block: (">" or "<", frame)."""
    blocks = re.findall(r"```wscat\n(.*?)```", page.read_text(), re.S)
    assert len(blocks) == 1, f"{page.name} has one session"
    return [(line[0], line[2:].strip()) for line in blocks[0].splitlines() if line.strip()]


def matches(expected: str, came: dict[str, Any], names: dict[str, Any]) -> bool:
    """Whether the frame has all that the line spells out: `...` stands for the rest, `<name>` for a value to keep."""
    quoted = re.sub(r'(?<!")<(\w+)>', r'"<\1>"', expected)
    shape = json.loads(re.sub(r",?\s*\.\.\.", "", quoted))
    return _within(shape, came, names)


def _within(shape: Any, came: Any, names: dict[str, Any]) -> bool:
    if isinstance(shape, str) and re.fullmatch(r"<\w+>", shape):
        return bool(names.setdefault(shape, came) == came)
    if isinstance(shape, dict):
        return isinstance(came, dict) and all(k in came and _within(v, came[k], names) for k, v in shape.items())
    if isinstance(shape, list) and shape:
        return isinstance(came, list) and all(_within(one, two, names) for one, two in zip(shape, came, strict=True))
    return bool(shape == came)


async def _expect(socket: ClientConnection, expected: str, names: dict[str, Any]) -> None:
    """The next frame, watermarks aside: they come when they come."""
    while True:
        frame = json.loads(await socket.recv())
        if matches(expected, frame, names):
            return
        assert frame["type"] in ("watermark", "indexed"), f"expected {expected}, got {frame}"


@pytest.mark.parametrize("page", ["README.md", "protocol/README.md"])
async def test_the_session_goes_as_the_page_says(server: Running, page: str) -> None:
    names: dict[str, Any] = {}
    lines = session(ROOT / page)
    assert len(lines) > 5
    async with connect(server.url.replace("http", "ws") + "/live") as socket:
        for direction, line in lines:
            if direction == ">":
                for name, value in names.items():
                    line = line.replace(name, str(value))
                await socket.send(line)
            else:
                await _expect(socket, line, names)
