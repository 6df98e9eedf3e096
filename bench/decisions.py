"""What a decision of the gate costs, beside the whole of a mutation that it is made for.

The caller is a nurse with a hundred patients, by the policies that bonfire comes with. Three cases: what was decided
before; the first record with new words (another patient, another category); and the first request of a caller at all,
with the compiling of what they may read.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import count

from bench.database import add_patients, bonfire_database, patients
from bench.report import Line, lines_beside
from bench.write_path import create_note
from bonfire.access.audit import Trail
from bonfire.access.facts import Facts, Relation
from bonfire.access.gate import Access, Gate
from bonfire.access.policies import PolicyBook
from bonfire.access.principal import Principal
from bonfire.clinical.builtin import builtin_registry
from bonfire.clinical.registry import Registry
from bonfire.store.pool import Database

MUTATION = "a whole notes.create"
TARGET = 20.0
"""A decision takes less than 5% of a mutation's time."""


@dataclass(frozen=True)
class Size:
    """How many decisions and mutations are timed in a round, and on how many care teams the nurse is."""

    decisions: int = 300
    mutations: int = 300
    patients: int = 100


QUICK = Size(decisions=3, mutations=3, patients=3)


async def run(cluster: str, rounds: int, size: Size = Size()) -> list[Line]:
    """Each case `rounds` times, beside mutations one after the other."""
    registry = builtin_registry()
    numbers = count()
    facts = Facts(tuple(Relation("careTeam", patient) for patient in patients(size.patients)))
    gate = Gate(PolicyBook())

    def caller(user: str) -> Access:
        return gate.access(Principal("default", user, "Nurse", roles=frozenset(["nurse"])), facts)

    def decide(access: Access, category: str) -> None:
        access.may_call("notes.create", "mutation")
        access.check("create", "DocumentReference", "n1", _note(category))

    def again() -> None:
        decide(caller("nurse"), "note")

    def new_words() -> None:
        access = caller("nurse")
        access.check("create", "DocumentReference", "n1", _note(f"category-{next(numbers)}"))

    def new_caller() -> None:
        access = caller(f"nurse-{next(numbers)}")
        decide(access, "note")
        if access.reach.nothing:
            raise RuntimeError("a nurse sees nothing")

    cases: dict[str, Callable[[], None]] = {
        "decided before": again,
        "a record with new words": new_words,
        "a new caller, with what they may read": new_caller,
    }
    async with bonfire_database(cluster, registry) as url:
        await add_patients(url, patients(size.patients))
        database = await Database.connect(url, min_size=1, max_size=1)
        trail = Trail(database)
        pairs = [
            {
                case: (_milliseconds(once, size.decisions), await _mutations(database, registry, trail, size))
                for case, once in cases.items()
            }
            for _ in range(rounds)
        ]
        await database.close()
    lines: list[Line] = []
    for case in cases:
        figures = {"bonfire": [pair[case][0] for pair in pairs], MUTATION: [pair[case][1] for pair in pairs]}
        # Once for each caller and each change of what is known of them, not once for each mutation.
        targets = None if case.startswith("a new caller") else {MUTATION: TARGET}
        lines += lines_beside("decisions", case, "ms", "lower", figures, targets=targets)
    return lines


def _note(category: str) -> frozenset[str]:
    return frozenset(["type:DocumentReference", "patient:p0", "label:", f"category:{category}", "draft:true"])


def _milliseconds(once: Callable[[], None], times: int) -> float:
    start = time.perf_counter()
    for _ in range(times):
        once()
    return (time.perf_counter() - start) / times * 1000


async def _mutations(database: Database, registry: Registry, trail: Trail, size: Size) -> float:
    start = time.perf_counter()
    for number in range(size.mutations):
        await create_note(database, registry, trail, f"{start}-{number}", f"p{number % size.patients}")
    return (time.perf_counter() - start) / size.mutations * 1000
