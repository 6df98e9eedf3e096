"""Results as a table for people and as JSON for whoever compares them later."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec
from msgspec import Struct
from rich.console import Console
from rich.table import Table

from bench.stats import Better, Compared, compare


class Line(Struct, frozen=True):
    """One figure: what was measured, in which unit, beside whom. `target` is the ratio to reach, `goal` the figure of
    our own to reach, where there is one. `note` says what one must know to read it."""

    bench: str
    case: str
    unit: str
    beside: str
    better: Better
    compared: Compared
    target: float | None = None
    goal: float | None = None
    note: str = ""

    @property
    def reached(self) -> bool | None:
        """None where there is nothing to reach."""
        if self.target is not None:
            return self.compared.ratio >= self.target
        if self.goal is not None:
            return self.compared.ours >= self.goal if self.better == "higher" else self.compared.ours <= self.goal
        return None


class Report(Struct, frozen=True):
    machine: dict[str, object]
    rounds: int
    lines: list[Line]


def lines_beside(
    bench: str,
    case: str,
    unit: str,
    better: Better,
    figures: Mapping[str, Sequence[float]],
    *,
    targets: Mapping[str, float] | None = None,
    goal: float | None = None,
    note: str = "",
) -> list[Line]:
    """A line for each server beside bonfire. `figures`: each one's, round by round, "bonfire" among them; `targets`:
    the ratio to reach beside those who are named."""
    lines: list[Line] = []
    for name, theirs in figures.items():
        if name != "bonfire":
            compared = compare(figures["bonfire"], theirs, better=better)
            target = None if targets is None else targets.get(name)
            # Said once: it is the same beside everybody.
            own = (goal, note) if not lines else (None, "")
            lines.append(Line(bench, case, unit, name, better, compared, target, *own))
    return lines


def print_lines(lines: Sequence[Line], console: Console) -> None:
    table = Table(title="bonfire beside others (ratio: 1 is as good as the other, more is better)")
    for name in ("bench", "case", "unit", "beside"):
        table.add_column(name)
    for name in ("bonfire", "other", "ratio", "rounds", "to reach"):
        table.add_column(name, justify="right")
    before: Line | None = None
    for line in lines:
        found = line.compared
        new = before is None or (before.bench, before.case, before.unit) != (line.bench, line.case, line.unit)
        table.add_row(
            line.bench if before is None or before.bench != line.bench else "",
            line.case if new else "",
            line.unit if new else "",
            line.beside,
            spelled(found.ours) if new else "",
            spelled(found.theirs),
            f"{found.ratio:.2f}",
            f"{found.low:.2f} - {found.high:.2f}",
            _to_reach(line),
        )
        before = line
    console.print(table)
    for note in dict.fromkeys(f"{line.bench}, {line.case}: {line.note}" for line in lines if line.note):
        console.print(note)


def write_report(report: Report, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(msgspec.json.format(msgspec.json.encode(report), indent=2) + b"\n")


def read_report(path: Path) -> Report:
    return msgspec.json.decode(path.read_bytes(), type=Report)


def _to_reach(line: Line) -> str:
    if line.reached is None:
        return ""
    wanted = f"{line.target:.2f}" if line.target is not None else spelled(line.goal or 0)
    return f"{wanted} [green]ok[/]" if line.reached else f"{wanted} [red]missed[/]"


def spelled(value: float) -> str:
    return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"
