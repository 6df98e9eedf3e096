from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from bench.report import Line, Report, lines_beside, print_lines, read_report, write_report
from bench.stats import Better

FIGURES = {"bonfire": [2.0, 2.0], "Node": [3.0, 3.0], "floor": [1.0, 1.0]}


def _lines(*, better: Better = "lower", goal: float | None = None) -> list[Line]:
    return lines_beside("fan-out", "case", "us", better, FIGURES, targets={"Node": 1.0, "floor": 0.8}, goal=goal)


def test_each_server_has_a_line_beside_bonfire() -> None:
    node, floor = _lines()

    assert (node.beside, node.compared.ratio, node.reached) == ("Node", 1.5, True)
    assert (floor.beside, floor.compared.ratio, floor.reached) == ("floor", 0.5, False)


@pytest.mark.parametrize(
    ("better", "goal", "reached"), [("lower", 2.0, True), ("lower", 1.9, False), ("higher", 2.1, False)]
)
def test_a_goal_is_of_bonfires_own_figure(better: Better, goal: float, reached: bool) -> None:
    line, other = lines_beside("memory", "case", "KB", better, FIGURES, goal=goal)

    assert line.reached is reached
    assert other.reached is None


def test_a_report_is_read_as_it_was_written(tmp_path: Path) -> None:
    report = Report({"cores": 2}, 2, _lines(goal=3.0))

    write_report(report, tmp_path / "results" / "one.json")

    assert read_report(tmp_path / "results" / "one.json") == report


def test_the_table_says_what_was_reached() -> None:
    written = StringIO()

    print_lines(_lines(), Console(file=written, width=200))

    assert "1.00 ok" in written.getvalue()
    assert "0.80 missed" in written.getvalue()
