"""The whole product under fire, for as long as one likes: `python -m soak --minutes 30 --seed 7`.

A run is a series of storms of a minute each, on one database. Each storm's script follows from the seed; one that fails
is written to a file, made as short as can be, and can be run again: `python -m soak --replay failed.json`.
"""

import argparse
import asyncio
import secrets
import shutil
import sys
import time
from pathlib import Path

import uvloop

from soak.attempt import attempt, end_on_sigterm, own_folder
from soak.postgres import SoakPostgres
from soak.report import describe, story, summary
from soak.run import Outcome, prepare, run
from soak.script import Script, compose, load, save
from soak.shrink import shortest

STORM = 60.0


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=5.0, help="how long to go on (5)")
    parser.add_argument("--seed", type=int, help="what everything follows from (any)")
    parser.add_argument("--readers", type=int, default=16, help="subscribers, besides the writers' own (16)")
    parser.add_argument("--every", type=float, default=3.0, help="seconds between two faults, in the mean (3)")
    parser.add_argument("--nodes", help="the fleet, as `wal,wal,listen` (another one each storm)")
    parser.add_argument("--without", default="", metavar="FAULTS", help="leave these out: `fill disk,jump clock`")
    parser.add_argument("--replay", type=Path, metavar="FILE", help="run this script, and nothing else")
    parser.add_argument("--attempts", type=int, default=12, help="runs that may be spent on shortening a failure (12)")
    parser.add_argument("--out", type=Path, default=Path("soak-failed.json"), help="where a failing script is written")
    arguments = parser.parse_args()
    if arguments.replay is not None:
        outcome = attempt(load(arguments.replay))
        print(describe(outcome), flush=True)
        if outcome.violations:
            _tell_stories(outcome, arguments.replay.with_suffix(".logs"))
        return 1 if outcome.violations else 0
    seed = arguments.seed if arguments.seed is not None else secrets.randbelow(2**31)
    print(f"seed {seed}", flush=True)
    return uvloop.run(_series(arguments, seed))


async def _series(arguments: argparse.Namespace, seed: int) -> int:
    end_on_sigterm()
    until = time.monotonic() + 60 * arguments.minutes
    total = Outcome([])
    failed: Script | None = None
    without = frozenset(filter(None, arguments.without.split(",")))
    fleet = arguments.nodes.split(",") if arguments.nodes else None
    with own_folder() as folder:
        postgres = SoakPostgres(folder)
        blocked = await asyncio.to_thread(postgres.create, small_disk=True)
        try:
            await prepare(postgres)
            number = 0
            while failed is None and (left := until - time.monotonic()) > 0:
                seconds = min(STORM, max(10.0, left))
                script = compose(
                    seed + number,
                    seconds=seconds,
                    readers=arguments.readers,
                    nodes=fleet,
                    every=arguments.every,
                    without=without,
                )
                outcome = await run(script, postgres, folder)
                print(f"storm {number}, {','.join(script.nodes)}: {summary(outcome)}", flush=True)
                _add(total, outcome)
                number += 1
                if outcome.violations:
                    print(describe(outcome), flush=True)
                    failed = script
                    _keep_logs(folder, arguments.out.with_suffix(".logs"))
                    _tell_stories(outcome, arguments.out.with_suffix(".logs"))
        finally:
            await asyncio.to_thread(postgres.stop)
    if blocked:
        total.blocked["fill disk"] = blocked
    print(f"all in all: {summary(total)}", flush=True)
    print(describe(total) if failed is None else f"seed {seed} failed", flush=True)
    if failed is None:
        return 0
    save(failed, arguments.out)
    print(f"the script is in {arguments.out}; making it shorter ...", flush=True)
    short = await asyncio.to_thread(shortest, failed, attempt, arguments.attempts)
    save(short, arguments.out)
    print(f"again: python -m soak --replay {arguments.out}", flush=True)
    return 1


def _add(total: Outcome, outcome: Outcome) -> None:
    total.violations += outcome.violations
    total.counts.update(outcome.counts)
    total.faults += outcome.faults
    total.blocked |= outcome.blocked
    total.notes += outcome.notes
    total.lag = max(total.lag, outcome.lag)
    total.live += outcome.live
    total.watched += outcome.watched


def _tell_stories(outcome: Outcome, target: Path) -> None:
    target.mkdir(exist_ok=True)
    for client in {violation.client for violation in outcome.violations}:
        told = story(outcome.journal, client)
        if told.strip():
            (target / f"{client}.txt").write_text(told)


def _keep_logs(folder: Path, target: Path) -> None:
    target.mkdir(exist_ok=True)
    for log in (*folder.glob("*.log"), *folder.glob("postgres-*/postgres.log")):
        shutil.copy(log, target / log.name)
    print(f"the logs are in {target}", flush=True)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (KeyboardInterrupt, asyncio.CancelledError):
        sys.exit(130)
