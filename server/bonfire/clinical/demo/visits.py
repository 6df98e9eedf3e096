"""When people come to the clinic, to whom, and what for."""

from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from random import Random
from typing import Literal

from bonfire.clinical.demo.people import BEHAVIOURAL, PRIMARY_CARE, Clinician
from bonfire.clinical.demo.problems import Problem

YEARS = 2


@dataclass(frozen=True)
class Visit:
    """A visit (or a call) that took `minutes` from `at`. `newest`: nothing came after it."""

    at: datetime
    minutes: int
    kind: Literal["office", "virtual", "telephone"]
    clinician: Clinician
    reason: str
    problems: tuple[Problem, ...]
    newest: bool


def plan_visits(random: Random, problems: list[Problem], today: date) -> list[Visit]:
    """A person's visits of the last two years, oldest first, on weekdays, the newest before `today`."""
    physician = random.choice(PRIMARY_CARE)
    therapist = random.choice(BEHAVIOURAL)
    behavioural = [problem for problem in problems if problem.behavioural]
    others = [problem for problem in problems if not problem.behavioural]
    count = min(16, random.randint(2, 4) + 2 * len(others) + 3 * len(behavioural))
    days = _days(random, today, count)
    visits = []
    for number, day in enumerate(days):
        at = datetime.combine(day, time(random.randint(14, 21), random.choice((0, 20, 30, 40))), UTC)
        newest = number == len(days) - 1
        telephone = random.random() < 0.12 and not newest
        if telephone:
            visits.append(Visit(at, 10, "telephone", physician, "phone call", (), newest))
        elif behavioural and (not others or random.random() < 0.6):
            kind: Literal["office", "virtual"] = random.choice(("office", "virtual"))
            reason = random.choice(("a therapy session", "a medication review", "follow-up of mood and anxiety"))
            visits.append(Visit(at, 50, kind, therapist, reason, tuple(behavioural[:2]), newest))
        elif others:
            seen = tuple(random.sample(others, k=min(len(others), random.randint(1, 3))))
            reason = f"follow-up of {_mid_sentence(seen[0].snomed[1])}"
            visits.append(Visit(at, 20, "office", physician, reason, seen, newest))
        else:
            visits.append(Visit(at, 30, "office", physician, "the yearly check-up", (), newest))
    return visits


def _days(random: Random, today: date, count: int) -> list[date]:
    """`count` different weekdays, spread over the years before `today`, the last one in the last few weeks."""
    span = YEARS * 365
    step = span / count
    days: set[date] = set()
    for number in range(count):
        back = round(span - number * step - random.uniform(0, step * 0.8))
        if number == count - 1:
            back = random.randint(1, 24)
        day = today - timedelta(days=max(1, back))
        while day.weekday() >= 5 or day in days:
            day -= timedelta(days=1)
        days.add(day)
    return sorted(days)


def _mid_sentence(display: str) -> str:
    return display if display[1:2].isupper() else display[:1].lower() + display[1:]
