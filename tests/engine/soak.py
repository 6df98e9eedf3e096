"""The engine over as many simulated schedules as one likes: `python tests/engine/soak.py --seeds 100000 --from 0`.

Each schedule is made by its seed alone. A failing one is run again with fewer and fewer steps, and the shortest
script that still fails is printed as a command.
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
from engine.test_live_simulation import World


def fails(seed: int, steps: int) -> str | None:
    try:
        World(seed).run(steps)
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return None


def shortest(seed: int, steps: int) -> int:
    """The least number of steps with which this seed still fails."""
    return next((fewer for fewer in range(1, steps) if fails(seed, fewer)), steps)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=20_000)
    parser.add_argument("--from", dest="first", type=int, default=0)
    parser.add_argument("--steps", type=int, default=400)
    arguments = parser.parse_args()
    for seed in range(arguments.first, arguments.first + arguments.seeds):
        if reason := fails(seed, arguments.steps):
            steps = shortest(seed, arguments.steps)
            print(f"seed {seed} fails: {reason}\nagain: python {sys.argv[0]} --from {seed} --seeds 1 --steps {steps}")
            return 1
        if (seed + 1) % 1000 == 0:
            print(f"{seed + 1 - arguments.first} schedules, 0 failures", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
