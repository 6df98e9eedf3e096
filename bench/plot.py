"""Plots of a report: each title is what was found, computed from the figures that are drawn."""

from collections.abc import Callable, Sequence
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

from matplotlib import pyplot
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bench import crowd, fanout, many_keys
from bench.contenders import NODE_PUSH, NODE_REQUERY, STARLETTE_PUSH, STARLETTE_REQUERY
from bench.page import FAN_OUT, LATENCY, MANY_KEYS
from bench.report import Report

COLOURS = {
    "bonfire": "#d9480f",
    NODE_PUSH.name: "#2b6cb0",
    NODE_REQUERY.name: "#63a0d8",
    STARLETTE_PUSH.name: "#4a7c59",
    STARLETTE_REQUERY.name: "#7fb08f",
    fanout.FLOOR: "#9a9a9a",
}
INK, MUTED, GRID = "#222222", "#666666", "#e4e4e4"

Figures = dict[str, float]


def draw(report: Report, folder: Path) -> list[Path]:
    """Draw what the report has figures for, in `folder`."""
    plots: dict[str, Callable[[Report], Figure | None]] = {
        FAN_OUT: _fan_out,
        LATENCY: _latency,
        MANY_KEYS: _many_keys,
    }
    folder.mkdir(parents=True, exist_ok=True)
    drawn = []
    for name, plot in plots.items():
        figure = plot(report)
        if figure is not None:
            figure.savefig(folder / name, dpi=160, facecolor="white")
            pyplot.close(figure)
            drawn.append(folder / name)
    return drawn


def _figures(report: Report, bench: str, unit: str) -> dict[str, Figures]:
    """By case: each server's figure."""
    found: dict[str, Figures] = {}
    for line in report.lines:
        if line.bench == bench and line.unit == unit:
            case = found.setdefault(line.case, {"bonfire": line.compared.ours})
            case[line.beside] = line.compared.theirs
    return found


def _fan_out(report: Report) -> Figure | None:
    every = _figures(report, fanout.BENCH, "us CPU a delivery")
    cases = [case for case in fanout.CASES if case.name in every and case.rate and case.row_bytes == 300]
    if len(cases) < 2:
        return None
    sizes = [case.subscribers for case in cases]
    figure, axes = _canvas(8, 4.4, left=0.045, right=0.74)
    ends: list[tuple[float, str]] = []
    for name in every[cases[0].name]:
        costs = [every[case.name][name] for case in cases]
        axes.plot(sizes, costs, color=COLOURS[name], linewidth=2.6 if name == "bonfire" else 1.6, marker="o", ms=4.5)
        ends.append((costs[-1], name))
    axes.set_xscale("log")
    axes.set_xlim(sizes[0] * 0.9, sizes[-1] * 1.08)
    axes.set_ylim(0, max(cost for cost, _ in ends) * 1.12)
    axes.set_xticks(sizes, [f"{size:,}" for size in sizes])
    axes.minorticks_off()
    axes.set_xlabel("subscribers of one live query", color=MUTED)
    _end_labels(axes, ends)
    ours = every[cases[-1].name]["bonfire"]
    node = every[cases[-1].name][NODE_PUSH.name]
    _title(
        figure,
        f"A delivery to {sizes[-1]:,} screens costs bonfire {ours:.1f} µs, a hand-made Node server {node:.1f} µs",
        "Server CPU per row delivered (µs), 300-byte rows at a steady rate. The loop of sends is the floor.",
    )
    return figure


def _latency(report: Report) -> Figure | None:
    middle = _figures(report, crowd.BENCH, "ms COMMIT to screen, p50")
    slow = _figures(report, crowd.BENCH, "ms COMMIT to screen, p99")
    if not middle:
        return None
    case = list(middle)[-1]
    names = list(middle[case])
    figure, axes = _canvas(8, 3.4, left=0.23, right=0.93)
    for row, name in enumerate(names):
        p50, p99 = middle[case][name], slow[case][name]
        axes.plot([p50, p99], [row, row], color=COLOURS[name], linewidth=5, alpha=0.35, solid_capstyle="round")
        axes.plot([p50, p99], [row, row], "o", color=COLOURS[name], ms=8)
        axes.annotate(f"{p50:.1f}", (p50, row), (0, 9), textcoords="offset points", ha="center", color=INK)
        axes.annotate(f"{p99:.1f}", (p99, row), (0, 9), textcoords="offset points", ha="center", color=INK)
    axes.set_yticks(range(len(names)), names)
    axes.invert_yaxis()
    axes.set_ylim(len(names) - 0.5, -0.75)
    axes.set_xlim(0, max(slow[case].values()) * 1.08)
    axes.grid(visible=True, axis="x", color=GRID)
    axes.grid(visible=False, axis="y")
    axes.set_xlabel(
        "milliseconds from COMMIT to the screen: half of all (left dot), 99 of 100 (right dot)", color=MUTED
    )
    ours, theirs = slow[case]["bonfire"], slow[case][NODE_PUSH.name]
    _title(
        figure,
        f"99 of 100 changes are on screen in {ours:.1f} ms; with a hand-made Node server, {theirs:.1f}",
        case[0].upper() + case[1:] + ". Bonfire's are ordered, whole and resumable; the others promise nothing.",
    )
    return figure


def _many_keys(report: Report) -> Figure | None:
    every = _figures(report, many_keys.BENCH, "writes/s held")
    if not every:
        return None
    ((case, held),) = every.items()
    names = list(held)
    figure, axes = _canvas(8, 2.7, left=0.23, right=0.93, below=0.2)
    axes.barh(range(len(names)), [held[name] for name in names], color=[COLOURS[name] for name in names], height=0.62)
    for row, name in enumerate(names):
        text = f"{held[name]:,.0f}" if held[name] > many_keys.NOT_ONE else "none of the rates"
        axes.annotate(text, (held[name], row), (6, 0), textcoords="offset points", va="center", color=INK)
    axes.set_yticks(range(len(names)), names)
    axes.invert_yaxis()
    axes.set_xlim(0, max(held.values()) * 1.12)
    axes.grid(visible=False)
    axes.set_xticks([])
    best = max(value for name, value in held.items() if name != "bonfire")
    _title(
        figure,
        f"{held['bonfire']:,.0f} writes/s to {case.split(' on ')[0]} are held; {best:,.0f} by the best of the others",
        f"Highest of the rates tried with 99 of 100 changes on the screen within {many_keys.SLOW_MS:.0f} ms; {case}.",
    )
    return figure


def _canvas(width: float, height: float, *, left: float, right: float, below: float = 0.62) -> tuple[Figure, Axes]:
    """`left` and `right` are shares of the width, `below` is inches."""
    figure, axes = pyplot.subplots(figsize=(width, height))
    figure.subplots_adjust(left=left, right=right, top=1 - 0.85 / height, bottom=below / height)
    axes.spines[["top", "right", "left", "bottom"]].set_visible(False)
    axes.tick_params(length=0, labelcolor=INK, labelsize=9.5)
    axes.grid(visible=True, axis="y", color=GRID)
    axes.set_axisbelow(True)
    return figure, axes


def _title(figure: Figure, found: str, what: str) -> None:
    height = figure.get_size_inches()[1]
    figure.text(0.02, 1 - 0.3 / height, found, fontsize=11.5, fontweight="bold", color=INK)
    figure.text(0.02, 1 - 0.55 / height, what, fontsize=9.5, color=MUTED)


def _end_labels(axes: Axes, ends: Sequence[tuple[float, str]]) -> None:
    """Each line's name at its right end, pushed apart where they would lie on each other."""
    low, high = axes.get_ylim()
    least = (high - low) * 0.052
    place = low
    for cost, name in sorted(ends):
        place = max(cost, place + least)
        axes.annotate(
            f"{name}  {cost:.1f}",
            (axes.get_xlim()[1], place),
            (4, 0),
            textcoords="offset points",
            va="center",
            color=COLOURS[name],
            fontsize=9.5,
            fontweight="bold" if name == "bonfire" else "normal",
            annotation_clip=False,
        )
