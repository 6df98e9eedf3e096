"""The figures of a report in docs/benchmarks.md, between two marks: the plots that are there, and tables."""

from collections.abc import Iterable, Sequence
from itertools import groupby
from pathlib import Path

from bench.report import Line, Report, spelled

BEGIN = "<!-- figures: written by `python -m bench page FILE` -->"
END = "<!-- end of figures -->"


FAN_OUT, LATENCY, MANY_KEYS = "bench-fan-out.png", "bench-latency.png", "bench-many-keys.png"

PLOTS = {
    FAN_OUT: "CPU of the server for each delivery, by number of subscribers",
    LATENCY: "Milliseconds from COMMIT to the screen, by server",
    MANY_KEYS: "Highest rate of writes that is held with 10,000 live queries, by server",
}


class NoMarks(Exception):
    """The page has no place for the figures."""


def write_page(report: Report, page: Path) -> None:
    """Put plots and tables where the page's last ones are. Raises `NoMarks`."""
    text = page.read_text(encoding="utf-8")
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise NoMarks(f"{page} has no lines {BEGIN} and {END}")
    drawn = [f"![{what}](images/{name})\n" for name, what in PLOTS.items() if (page.parent / "images" / name).exists()]
    figures = "\n".join([*drawn, tables(report)])
    page.write_text(f"{before}{BEGIN}\n{figures}{END}{after}", encoding="utf-8")


def tables(report: Report) -> str:
    """A table for each benchmark: a row for each figure, a column for each server."""
    machine = report.machine
    parts = [
        f"Measured {str(machine['at'])[:10]} on {machine['cores']} cores of {machine['cpu']}, {machine['system']}; "
        f"Python {machine['python']}, Postgres {machine['postgres']}, {_versions(machine['packages'])}; "
        f"{_versions(machine['node'])}. Before it began, the load average was {machine['load_before']}. "
        f"Medians of {report.rounds} rounds; in brackets the ratio: above 1, bonfire is better.\n"
    ]
    for bench, lines in groupby(report.lines, key=lambda line: line.bench):
        parts.append(f"\n### {bench[0].upper()}{bench[1:]}\n\n{_table(list(lines))}")
    return "".join(parts)


def _table(lines: Sequence[Line]) -> str:
    others = list(dict.fromkeys(line.beside for line in lines))
    rows = [["", "bonfire", *others, "to reach"], ["---", *["---:"] * (len(others) + 1), "---"]]
    notes = []
    for (case, unit), group in groupby(lines, key=lambda line: (line.case, line.unit)):
        figures = {line.beside: line for line in group}
        first = next(iter(figures.values()))
        cells = [
            f"{spelled(figures[name].compared.theirs)} ({figures[name].compared.ratio:.2f})" if name in figures else ""
            for name in others
        ]
        rows.append([f"{case}: {unit}", f"**{spelled(first.compared.ours)}**", *cells, _to_reach(figures.values())])
        if first.note:
            notes.append(f"\n{case}: {first.note}.\n")
    return "".join(f"| {' | '.join(row)} |\n" for row in rows) + "".join(notes)


def _to_reach(lines: Iterable[Line]) -> str:
    said = []
    for line in lines:
        if line.reached is not None:
            wanted = f"{line.target:.2f} of {line.beside}" if line.target is not None else spelled(line.goal or 0)
            said.append(f"{wanted}: {'yes' if line.reached else 'no'}")
    return "; ".join(said)


def _versions(packages: object) -> str:
    assert isinstance(packages, dict)
    return ", ".join(f"{name} {version}" for name, version in packages.items())
