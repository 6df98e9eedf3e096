"""The vectors that Python and TypeScript both run."""

from pathlib import Path
from typing import Any

import msgspec

FOLDER = Path(__file__).parents[2] / "protocol/vectors"


def load(name: str) -> list[dict[str, Any]]:
    cases: list[dict[str, Any]] = msgspec.json.decode((FOLDER / f"{name}.json").read_bytes())
    return cases


def name_of(case: dict[str, Any]) -> str:
    return str(case["name"])
