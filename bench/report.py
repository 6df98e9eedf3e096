"""Results as a table for people and as JSON for whoever compares them later."""

from collections.abc import Sequence
from pathlib import Path

import msgspec
from msgspec import Struct
from rich.console import Console
from rich.table import Table

from bench.stats import Compared


class Line(Struct, frozen=True):
    """One figure: what was measured, in which unit, against which floor; `target` is the ratio to reach, if any."""

    bench: str
    case: str
    unit: str
    compared: Compared
    floor: str
    target: float | None = None


class Report(Struct, frozen=True):
    machine: dict[str, object]
    rounds: int
    lines: list[Line]


def print_lines(lines: Sequence[Line], console: Console) -> None:
    table = Table(title="bonfire beside its floors (ratio: 1 is the floor itself, less is worse)")
    for name in ("bench", "case", "unit"):
        table.add_column(name)
    for name in ("bonfire", "floor", "ratio", "rounds", "target"):
        table.add_column(name, justify="right")
    for line in lines:
        found = line.compared
        target = "" if line.target is None else f"{line.target:.2f}"
        mark = "" if line.target is None else (" [green]ok[/]" if found.ratio >= line.target else " [red]missed[/]")
        table.add_row(
            line.bench,
            line.case,
            line.unit,
            _spelled(found.ours),
            _spelled(found.floor),
            f"{found.ratio:.2f}",
            f"{found.low:.2f} - {found.high:.2f}",
            target + mark,
        )
    console.print(table)


def write_report(report: Report, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(msgspec.json.format(msgspec.json.encode(report), indent=2) + b"\n")


def _spelled(value: float) -> str:
    return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"
