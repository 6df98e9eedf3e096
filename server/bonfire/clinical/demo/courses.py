"""Numbers over time, as they go in a clinic: down with treatment, up with life, never in a straight line."""

from decimal import Decimal
from random import Random

from bonfire.clinical.instruments import Instrument


def score_course(random: Random, instrument: Instrument, visits: int) -> list[int]:
    """A total for each visit: it starts in the treated range, drifts towards a goal, and has a setback or two."""
    total = float(random.randint(instrument.maximum * 2 // 5, instrument.maximum * 4 // 5))
    goal = random.choice((2, 4, 5, 9, instrument.maximum // 2))
    setbacks = set(random.sample(range(visits), k=min(visits, random.randint(0, 2))))
    course = []
    for visit in range(visits):
        course.append(round(min(max(total, 0), instrument.maximum)))
        total += (goal - total) * random.uniform(0.1, 0.4) + random.gauss(0, 1.2)
        if visit in setbacks:
            total += random.uniform(3, 7)
    return course


def answers_for(random: Random, instrument: Instrument, total: int) -> list[int]:
    """Answers that add up to `total`. The last item is answered last and least: in the PHQ-9 it is self-harm."""
    answers = [0] * len(instrument.items)
    while sum(answers) < total:
        open_items = [item for item, answer in enumerate(answers[:-1]) if answer < 3] or [len(answers) - 1]
        answers[random.choice(open_items)] += 1
    return answers


def walk(random: Random, start: float, goal: float, spread: float, visits: int, places: int) -> list[Decimal]:
    """A measurement for each visit, from about `start` towards about `goal`, to `places` decimals."""
    value, values = start, []
    for _ in range(visits):
        values.append(round(Decimal(value + random.gauss(0, spread)), places))
        value += (goal - value) * random.uniform(0.05, 0.3)
    return values
