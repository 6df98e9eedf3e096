"""`make bench`, or `python -m bench [latency] [write-path] [fan-out]`: measure, print the table, keep the JSON."""

import argparse
import sys
from pathlib import Path

import uvloop
from rich.console import Console

from bench import fanout, latency, write_path
from bench.database import benchmark_database, postgres_version
from bench.machine import describe_machine
from bench.report import Line, Report, print_lines, write_report
from bonfire.clinical.registry import Registry

BENCHES = ("write-path", "latency", "fan-out")


async def measure(names: list[str], rounds: int, quick: bool, console: Console) -> Report:
    async with benchmark_database(Registry()) as url:
        machine = describe_machine(await postgres_version(url))
    lines: list[Line] = []
    for name in names:
        console.print(f"{name} ...")
        match name:
            case "write-path":
                lines += await write_path.run(rounds, write_path.Size(seconds=0.5) if quick else write_path.Size())
            case "latency":
                lines += await latency.run(rounds, latency.Size(commits=100) if quick else latency.Size())
            case "fan-out":
                lines += await fanout.run(rounds, fanout.Size(events=30, burst=100) if quick else fanout.Size())
    return Report(machine, rounds, lines)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench", description="Measure bonfire beside its floors.")
    parser.add_argument("names", nargs="*", help=f"which ones: {', '.join(BENCHES)} (all)")
    parser.add_argument("--rounds", type=int, default=5, help="how often each is measured (5)")
    parser.add_argument("--quick", action="store_true", help="short runs: to see that it works, not for figures")
    parser.add_argument("--out", type=Path, default=Path("bench/results/last.local.json"), help="where the JSON goes")
    arguments = parser.parse_args()
    if unknown := set(arguments.names) - set(BENCHES):
        parser.error(f"there is no {', '.join(sorted(unknown))}; there are {', '.join(BENCHES)}")
    # A table that is cut to a pipe's 80 columns is hard to read.
    console = Console() if sys.stdout.isatty() else Console(width=150)
    report = uvloop.run(measure(arguments.names or list(BENCHES), arguments.rounds, arguments.quick, console))
    print_lines(report.lines, console)
    write_report(report, arguments.out)
    console.print(f"Written to {arguments.out}")


if __name__ == "__main__":
    main()
