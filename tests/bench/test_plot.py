from pathlib import Path

from bench import crowd, fanout, many_keys
from bench.contenders import NODE_PUSH, STARLETTE_REQUERY
from bench.plot import draw
from bench.report import Report, lines_beside


def test_a_report_is_drawn(tmp_path: Path) -> None:
    figures = {"bonfire": [2.0], NODE_PUSH.name: [3.0]}
    lines = [
        line
        for case in fanout.CASES
        for line in lines_beside(
            fanout.BENCH, case.name, "us CPU a delivery", "lower", {**figures, fanout.FLOOR: [1.0]}
        )
    ]
    screens = {**figures, STARLETTE_REQUERY.name: [4.0]}
    for share in ("p50", "p99"):
        lines += lines_beside(crowd.BENCH, "9 screens", f"ms COMMIT to screen, {share}", "lower", screens)
    lines += lines_beside(many_keys.BENCH, "9 live queries on 3 sockets", "writes/s held", "higher", screens)

    drawn = draw(Report({}, 1, lines), tmp_path)

    assert [path.name for path in drawn] == ["bench-fan-out.png", "bench-latency.png", "bench-many-keys.png"]
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in drawn)


def test_what_was_not_measured_is_not_drawn(tmp_path: Path) -> None:
    assert draw(Report({}, 1, []), tmp_path) == []
