"""Make a failing script shorter: leave parts out, and keep what still fails.

A real storm is not the same twice, so a shorter script that passes once may only have been lucky: what is kept is
certain, what is left out is a good guess. Of a script that does not fail again at all, the original is kept.
"""

from collections.abc import Callable, Iterator

from msgspec.structs import replace

from soak.run import Outcome
from soak.script import Script


def shortest(script: Script, run: Callable[[Script], Outcome], attempts: int) -> Script:
    """The shortest script that has failed within so many runs."""
    found = script
    while attempts > 0:
        for smaller in _smaller(found):
            attempts -= 1
            outcome = run(smaller)
            print(
                f"  {len(smaller.faults)} faults, {len(smaller.writers)} writers, {len(smaller.readers)} readers, "
                f"{smaller.seconds:.0f} s: {'fails' if outcome.violations else 'passes'}",
                flush=True,
            )
            if outcome.violations:
                found = smaller
                break
            if attempts <= 0:
                break
        else:
            break
    return found


def _smaller(script: Script) -> Iterator[Script]:
    """Scripts with less in them, the boldest first."""
    half = script.seconds / 2
    if half >= 8:
        yield replace(script, seconds=half, faults=[each for each in script.faults if each.at < half - 1])
    if len(script.nodes) > 1:
        yield replace(script, nodes=script.nodes[:1])
    for part in ("faults", "readers", "writers"):
        items = getattr(script, part)
        least = 0 if part == "faults" else 1
        size = len(items) // 2
        while size >= 1:
            for start in range(0, len(items), size):
                kept = items[:start] + items[start + size :]
                if least <= len(kept) < len(items):
                    yield replace(script, **{part: kept})
            size //= 2
