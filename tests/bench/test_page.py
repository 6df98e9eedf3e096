from pathlib import Path

import pytest

from bench.page import BEGIN, END, LATENCY, NoMarks, write_page
from bench.report import Report, lines_beside

MACHINE: dict[str, object] = {
    "at": "2030-01-02T03:04:05+00:00",
    "cpu": "Quick Processor",
    "cores": 2,
    "load_before": 0.1,
    "system": "Linux",
    "python": "3.11",
    "postgres": "18.4",
    "packages": {"uvloop": "1.2"},
    "node": {"ws": "9.1"},
}
LINES = [
    *lines_beside(
        "fan-out", "100 x 300 B", "us", "lower", {"bonfire": [2.0], "Node": [3.0], "loop": [1.0]}, targets={"Node": 1.0}
    ),
    *lines_beside("memory", "idle", "KB", "lower", {"bonfire": [2.0], "Node": [1.0]}, goal=1.0, note="in pages"),
]


def test_the_figures_take_the_place_of_the_last_ones(tmp_path: Path) -> None:
    page = tmp_path / "benchmarks.md"
    page.write_text(f"# Before\n{BEGIN}\nold\n{END}\nAfter\n", encoding="utf-8")

    write_page(Report(MACHINE, 3, LINES), page)
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / LATENCY).touch()
    write_page(Report(MACHINE, 3, LINES), page)

    text = page.read_text(encoding="utf-8")
    assert text.startswith("# Before\n")
    assert text.endswith(f"{END}\nAfter\n")
    assert "old" not in text
    assert text.count("![") == 1
    assert f"(images/{LATENCY})" in text
    assert text.count("### Fan-out") == 1
    assert "| 100 x 300 B: us | **2** | 3 (1.50) | 1 (0.50) | 1.00 of Node: yes |" in text
    assert "| idle: KB | **2** | 1 (0.50) | 1: no |\n\nidle: in pages." in text


def test_a_page_without_a_place_for_them_is_refused(tmp_path: Path) -> None:
    page = tmp_path / "benchmarks.md"
    page.write_text(f"# Before\n{BEGIN}\n", encoding="utf-8")

    with pytest.raises(NoMarks):
        write_page(Report(MACHINE, 3, LINES), page)
