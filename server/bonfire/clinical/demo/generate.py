"""A clinic's worth of synthetic patients. The same seed, day and count give the same resources."""

from datetime import date
from random import Random

from bonfire.clinical.demo.chart import Chart
from bonfire.clinical.demo.ids import new_id
from bonfire.clinical.demo.people import CLINICIANS, Clinician, draw_person
from bonfire.clinical.demo.problems import PROBLEMS, Problem
from bonfire.clinical.demo.visits import plan_visits
from bonfire.clinical.references import USER_SYSTEM
from bonfire_protocol.values import Json


def generate(seed: int, today: date, count: int = 36) -> list[Json]:
    """FHIR resources with ids: the clinic's staff, then `count` patients with what two years have left in their charts.

    References are relative and all of them resolve, backwards in the list; nothing was written after `today` began.
    """
    staff = Random(f"{seed} staff")
    practitioners = {clinician.key: _practitioner(staff, clinician) for clinician in CLINICIANS}
    references = {
        clinician.key: {
            "reference": f"Practitioner/{practitioners[clinician.key]['id']}",
            "display": clinician.name,
        }
        for clinician in CLINICIANS
    }
    resources = list(practitioners.values())
    taken: set[tuple[str, str]] = set()
    for number in range(count):
        # A generator of its own for each person: one more or less changes nothing about those before.
        random = Random(f"{seed} {number}")
        person = draw_person(random, taken, today)
        problems = _problems(random, (today - person.birth_date).days // 365)
        visits = plan_visits(random, problems, today)
        resources += Chart(random, person, problems, references, number).build(visits, today)
    return resources


def _problems(random: Random, age: int) -> list[Problem]:
    """Up to five problems that fit the age, in the order of the list."""
    fitting = [
        problem for problem in PROBLEMS if problem.ages[0] <= age <= problem.ages[1] and random.random() < problem.share
    ]
    chosen = random.sample(fitting, k=min(5, len(fitting)))
    return [problem for problem in PROBLEMS if problem in chosen]


def _practitioner(random: Random, clinician: Clinician) -> Json:
    return {
        "resourceType": "Practitioner",
        "id": new_id(random),
        "active": True,
        "identifier": [{"system": USER_SYSTEM, "value": clinician.key}],
        "name": [
            {
                "text": clinician.name,
                "family": clinician.family,
                "given": [clinician.given],
                "suffix": [clinician.suffix],
            }
        ],
        "qualification": [{"code": {"text": clinician.role}}],
    }
