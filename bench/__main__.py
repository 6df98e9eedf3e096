"""`make bench`, or `python -m bench [NAME ...]`: measure, print the table, keep the JSON.

`python -m bench plot FILE` draws what is in such a JSON; `python -m bench page FILE` puts it on the page of the docs.
"""

import argparse
import sys
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

import uvloop
from rich.console import Console

from bench import (
    auditing,
    crowd,
    decisions,
    fanout,
    latency,
    many_keys,
    memory,
    revocation,
    storm,
    write_path,
)
from bench.child import raise_file_limit
from bench.contenders import NoNode, install_rivals
from bench.database import benchmark_cluster, postgres_version
from bench.machine import describe_machine
from bench.page import write_page
from bench.report import Line, Report, print_lines, read_report, write_report

Bench = Callable[[str, int], Awaitable[list[Line]]]

BENCHES: Mapping[str, Bench] = {
    "fan-out": fanout.run,
    "one-screen": latency.run,
    "crowd": crowd.run,
    "many-keys": many_keys.run,
    "storm": storm.run,
    "memory": memory.run,
    "write-path": write_path.run,
    "decisions": decisions.run,
    "auditing": auditing.run,
    "revocation": revocation.run,
}

QUICK: Mapping[str, Bench] = {
    "fan-out": partial(fanout.run, cases=fanout.QUICK),
    "one-screen": partial(latency.run, size=latency.QUICK),
    "crowd": partial(crowd.run, size=crowd.QUICK),
    "many-keys": partial(many_keys.run, size=many_keys.QUICK),
    "storm": partial(storm.run, size=storm.QUICK),
    "memory": partial(memory.run, size=memory.QUICK),
    "write-path": partial(write_path.run, size=write_path.QUICK),
    "decisions": partial(decisions.run, size=decisions.QUICK),
    "auditing": partial(auditing.run, size=auditing.QUICK),
    "revocation": partial(revocation.run, size=revocation.QUICK),
}
"""The same with tiny sizes: to see that they work, not for figures."""


async def measure(names: Sequence[str], rounds: int, quick: bool, out: Path, console: Console) -> Report:
    """Each of the benchmarks; what has been measured is in `out` after each, whatever becomes of the next."""
    lines: list[Line] = []
    async with benchmark_cluster() as cluster:
        machine = describe_machine(await postgres_version(cluster))
        for name in names:
            start = time.monotonic()
            lines += await (QUICK if quick else BENCHES)[name](cluster, rounds)
            console.print(f"{name}: {time.monotonic() - start:.0f} s")
            write_report(Report(machine, rounds, lines), out)
    return Report(machine, rounds, lines)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench", description="Measure bonfire beside others.")
    parser.add_argument("names", nargs="*", help=f"which ones: {', '.join(BENCHES)} (all); or: plot FILE, page FILE")
    parser.add_argument("--rounds", type=int, default=3, help="how often each is measured (3)")
    parser.add_argument("--quick", action="store_true", help="tiny and short: to see that it works, not for figures")
    parser.add_argument("--out", type=Path, default=Path("bench/results/last.local.json"), help="where the JSON goes")
    parser.add_argument("--docs", type=Path, default=Path("docs"), help="where plot and page write to")
    arguments = parser.parse_args()
    match arguments.names:
        case ["plot", file]:
            # matplotlib is needed for this alone.
            from bench.plot import draw

            for path in draw(read_report(Path(file)), arguments.docs / "images"):
                print(path)
            return
        case ["page", file]:
            write_page(read_report(Path(file)), arguments.docs / "benchmarks.md")
            return
    if unknown := set(arguments.names) - set(BENCHES):
        parser.error(f"there is no {', '.join(sorted(unknown))}; there are {', '.join(BENCHES)}")
    raise_file_limit()
    try:
        install_rivals()
    except NoNode as error:
        parser.exit(1, f"{error}\n")
    # A table that is cut to a pipe's 80 columns is hard to read.
    console = Console() if sys.stdout.isatty() else Console(width=170)
    names = arguments.names or list(BENCHES)
    report = uvloop.run(measure(names, arguments.rounds, arguments.quick, arguments.out, console))
    print_lines(report.lines, console)
    console.print(f"Written to {arguments.out}")


if __name__ == "__main__":
    main()
