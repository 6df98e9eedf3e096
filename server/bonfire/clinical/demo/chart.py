"""One synthetic patient's chart: the resources that two years of visits leave behind."""

from collections.abc import Mapping
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from random import Random
from typing import Literal

from bonfire.clinical import chart as records
from bonfire.clinical.demo.courses import answers_for, score_course, walk
from bonfire.clinical.demo.ids import new_id
from bonfire.clinical.demo.people import Person
from bonfire.clinical.demo.problems import Lab, Medication, Problem
from bonfire.clinical.demo.prose import ScoreLine, telephone_note, visit_note
from bonfire.clinical.demo.visits import Visit
from bonfire.clinical.encounters import EncounterKind, encounter_resource, ended
from bonfire.clinical.instruments import GAD_7, PHQ_9, Instrument
from bonfire.clinical.notes import NoteKind, encoded, note_resource, signed
from bonfire.clinical.patients import human_name, mrn_identifier
from bonfire.clinical.references import LOINC, RXNORM, SNOMED, concept, encounter_reference, patient_reference
from bonfire.clinical.scores import response_resource, score_resource
from bonfire.clinical.times import instant
from bonfire.clinical.vitals import (
    BODY_MASS_INDEX,
    HEART_RATE,
    HEIGHT,
    WEIGHT,
    Measure,
    Measured,
    blood_pressure,
    measurement,
)
from bonfire_protocol.values import Json

_INSTRUMENTS: dict[str, Instrument] = {"phq9": PHQ_9, "gad7": GAD_7}
_LABS: dict[Lab, Measure] = {
    "a1c": Measure("4548-4", "Hemoglobin A1c/Hemoglobin.total in Blood", "Hemoglobin A1c", "%", "%"),
    "ldl": Measure(
        "18262-6", "Cholesterol in LDL [Mass/volume] in Serum or Plasma by Direct assay", "LDL", "mg/dL", "mg/dL"
    ),
    "tsh": Measure("3016-3", "Thyrotropin [Units/volume] in Serum or Plasma", "TSH", "mIU/L", "m[IU]/L"),
}
_LAB_RANGES: dict[Lab, tuple[float, float, float, int]] = {
    # start, goal, spread, decimals
    "a1c": (8.6, 6.9, 0.2, 1),
    "ldl": (148, 92, 8, 0),
    "tsh": (4.9, 2.4, 0.5, 2),
}
_ALLERGIES: tuple[tuple[str, str, str, records.Criticality], ...] = (
    ("91936005", "Allergy to penicillin", "Hives", "low"),
    ("91935009", "Allergy to peanut", "Swelling of the lips", "high"),
    ("300916003", "Latex allergy", "Itching where the glove touched", "low"),
    ("300913006", "Shellfish allergy", "Hives and vomiting", "high"),
    ("418689008", "Allergy to grass pollen", "Sneezing, itching eyes", "low"),
    ("424213003", "Allergy to bee venom", "Swelling of the whole arm", "high"),
)
_CVX = "http://hl7.org/fhir/sid/cvx"
_FLU = ("140", "Influenza, seasonal, injectable, preservative free")
_TETANUS = ("113", "Td (adult) preservative free")
_PNEUMOCOCCAL = ("133", "Pneumococcal conjugate PCV 13")
_CBT = ("228557008", "Cognitive and behavioral therapy")
_COLONOSCOPY = ("73761001", "Colonoscopy")
_ADDENDA = (
    "Addendum: the dose was written wrongly above; the list of medications is right.",
    "Addendum: the result came back after the visit, in range. Patient told by phone.",
    "Addendum: the left side, not the right one.",
)


class Chart:
    """Builds one person's chart, once. `clinicians` holds a reference for each clinician's key; `number` tells the
    medical record number."""

    def __init__(
        self, random: Random, person: Person, problems: list[Problem], clinicians: Mapping[str, Json], number: int
    ) -> None:
        self._random = random
        self._person = person
        self._problems = problems
        self._clinicians = clinicians
        self._number = number
        self._id = new_id(random)
        self._resources: list[Json] = []

    def build(self, visits: list[Visit], today: date) -> list[Json]:
        """All of the chart's resources."""
        self._add(self._patient())
        self._add_problems(visits[0], today)
        self._add_allergies(visits[0])
        self._add_prevention(visits[0], today)
        self._add_visits(visits)
        return self._resources

    def _add(self, resource: Json) -> Json:
        resource = {**resource, "id": resource.get("id") or new_id(self._random)}
        self._resources.append(resource)
        return resource

    def _patient(self) -> Json:
        person = self._person
        return {
            "resourceType": "Patient",
            "id": self._id,
            "active": True,
            "identifier": [mrn_identifier(str(100_213 + 37 * self._number))],
            "name": [human_name(person.given, person.family)],
            "gender": person.sex,
            "birthDate": person.birth_date.isoformat(),
            "telecom": [{"system": "phone", "value": person.phone}, {"system": "email", "value": person.email}],
            "address": [{"line": [person.street], "city": person.town, "postalCode": person.postal_code}],
            "communication": [{"language": {"text": person.language}, "preferred": True}],
        }

    def _add_problems(self, first: Visit, today: date) -> None:
        random = self._random
        for problem in self._problems:
            onset = today - timedelta(days=round(random.uniform(0.3, problem.years) * 365))
            since_birth = self._person.birth_date + timedelta(days=12 * 365)
            onset = max(onset, since_birth)
            code = concept(SNOMED, *problem.snomed)
            recorder = self._clinicians[first.clinician.key]
            recorded = datetime.combine(onset, time(16), UTC)
            self._add(records.condition_resource(self._id, code, onset, recorded, recorder))
            medications = list(problem.medications)
            random.shuffle(medications)
            begun = max(onset + timedelta(days=random.randint(3, 40)), today - timedelta(days=900))
            if begun >= today:
                begun = today - timedelta(days=1)
            if len(medications) > 1 and random.random() < 0.4:
                # A first try that was stopped before the one that stayed.
                self._add_medication(medications.pop(), "stopped", begun - timedelta(days=70), recorder)
            self._add_medication(medications[0], "active", begun, recorder)

    def _add_medication(
        self, medication: Medication, status: Literal["active", "stopped"], day: date, requester: Json
    ) -> None:
        name = medication.name
        coded = {"text": name} if medication.rxnorm is None else concept(RXNORM, *medication.rxnorm, text=name)
        authored = datetime.combine(day, time(17), UTC)
        self._add(records.medication_resource(self._id, coded, medication.dose, status, authored, requester))

    def _add_allergies(self, first: Visit) -> None:
        random = self._random
        for code, display, reaction, criticality in random.sample(_ALLERGIES, k=random.choice((0, 0, 0, 1, 1, 2))):
            recorder = self._clinicians[first.clinician.key]
            coded = concept(SNOMED, code, display)
            self._add(records.allergy_resource(self._id, coded, reaction, criticality, first.at, recorder))

    def _add_prevention(self, first: Visit, today: date) -> None:
        random = self._random
        performer = self._clinicians[first.clinician.key]
        age = (today - self._person.birth_date).days // 365
        given: list[tuple[date, tuple[str, str]]] = []
        for year in (today.year - 2, today.year - 1, today.year):
            if random.random() < 0.7:
                given.append((date(year, 10, random.randint(1, 28)), _FLU))
        if random.random() < 0.4:
            given.append((today - timedelta(days=random.randint(30, 720)), _TETANUS))
        if age >= 65:
            given.append((today - timedelta(days=random.randint(30, 720)), _PNEUMOCOCCAL))
        for day, vaccine in given:
            if day < today:
                self._add(records.immunization_resource(self._id, concept(_CVX, *vaccine), day, performer))
        if age >= 50 and random.random() < 0.5:
            self._add_procedure(_COLONOSCOPY, today - timedelta(days=random.randint(60, 720)), None, performer)

    def _add_procedure(self, code: tuple[str, str], day: date, encounter_id: str | None, performer: Json) -> None:
        resource: Json = {
            "resourceType": "Procedure",
            "status": "completed",
            "code": concept(SNOMED, *code),
            "subject": patient_reference(self._id),
            "performedDateTime": day.isoformat(),
            "performer": [{"actor": performer}],
        }
        if encounter_id is not None:
            resource["encounter"] = encounter_reference(encounter_id)
        self._add(resource)

    def _add_visits(self, visits: list[Visit]) -> None:
        random = self._random
        count = len(visits)
        keys = sorted({course for problem in self._problems for course in problem.courses})
        courses = {key: score_course(random, _INSTRUMENTS[key], count) for key in keys}
        before: dict[str, int] = {}
        body = _Body(random, self._problems, self._person, count)
        for number, visit in enumerate(visits):
            encounter_id = self._add_encounter(visit)["id"]
            place = Measured(self._id, encounter_id, visit.at, self._clinicians[visit.clinician.key])
            lines = []
            for key in keys:
                # A phone call has no questionnaire, and a knee has none either.
                if any(key in problem.courses for problem in visit.problems):
                    total = courses[key][number]
                    self._add_score(place, _INSTRUMENTS[key], total)
                    lines.append(ScoreLine(_INSTRUMENTS[key].name, total, before.get(key)))
                    before[key] = total
            vitals = None
            if visit.kind == "office":
                for resource in body.measured(place, number):
                    self._add(resource)
                vitals = body.sentence(number)
            for lab in sorted({lab for problem in visit.problems for lab in problem.labs}):
                if random.random() < 0.6:
                    value = body.lab(lab, number)
                    self._add(measurement(place, _LABS[lab], value, laboratory=True))
            if visit.reason == "a therapy session":
                self._add_procedure(_CBT, visit.at.date(), encounter_id, place.performer)
            self._add_note(visit, place, lines, vitals)

    def _add_encounter(self, visit: Visit) -> Json:
        kind: EncounterKind = "office" if visit.kind == "office" else "virtual"
        reason = visit.reason.removeprefix("a ").removeprefix("the ")
        clinician = self._clinicians[visit.clinician.key]
        begun = encounter_resource(self._id, kind, reason[:1].upper() + reason[1:], instant(visit.at), clinician)
        return self._add(ended(begun, instant(visit.at + timedelta(minutes=visit.minutes))))

    def _add_score(self, place: Measured, instrument: Instrument, total: int) -> None:
        answers = answers_for(self._random, instrument, total)
        response = self._add(
            response_resource(self._id, place.encounter_id, instrument, answers, place.at, place.performer)
        )
        score = score_resource(
            self._id,
            place.encounter_id,
            concept(LOINC, *instrument.total, text=instrument.name),
            Decimal(total),
            instrument.severity(total),
            place.at,
            place.at,
            place.performer,
        )
        self._add({**score, "derivedFrom": [{"reference": f"QuestionnaireResponse/{response['id']}"}]})

    def _add_note(self, visit: Visit, place: Measured, scores: list[ScoreLine], vitals: str | None) -> None:
        random = self._random
        author = place.performer
        if visit.kind == "telephone":
            text = telephone_note(random, self._person)
            kind: NoteKind = "telephone"
        else:
            weeks = random.choice((2, 4, 6, 12))
            text = visit_note(random, self._person, visit.reason, list(visit.problems), scores, vitals, weeks)
            kind = "progress"
        written = visit.at + timedelta(minutes=visit.minutes + random.randint(2, 30))
        draft = note_resource(self._id, place.encounter_id, text, None, kind, written, author)
        fate = random.random()
        if visit.newest and fate < 0.25:
            self._add(draft)
        elif fate > 0.97:
            self._add({**draft, "status": "entered-in-error", "docStatus": "entered-in-error"})
        elif fate > 0.90:
            first = self._add({**signed(draft, author, "final"), "status": "superseded"})
            amended = draft["content"][0]["attachment"] | encoded(text + "\n\n" + random.choice(_ADDENDA))
            second = {
                **draft,
                "date": instant(written + timedelta(hours=random.randint(2, 20))),
                "relatesTo": [{"code": "replaces", "target": {"reference": f"DocumentReference/{first['id']}"}}],
                "content": [{"attachment": amended}],
            }
            self._add(signed(second, author, "amended"))
        else:
            self._add(signed(draft, author, "final"))


class _Body:
    """What is measured of a person at each visit."""

    def __init__(self, random: Random, problems: list[Problem], person: Person, visits: int) -> None:
        keys = {problem.key for problem in problems}
        self._height = Decimal(round(random.gauss(162 if person.sex == "female" else 176, 6)))
        index = random.uniform(27, 36) if "diabetes" in keys else random.uniform(20, 32)
        weight = index * (float(self._height) / 100) ** 2
        high = "hypertension" in keys
        self._systolic = walk(random, 152 if high else 121, 128 if high else 119, 6, visits, 0)
        self._diastolic = walk(random, 94 if high else 76, 79 if high else 75, 4, visits, 0)
        self._pulse = walk(random, random.uniform(66, 84), 72, 4, visits, 0)
        self._weight = walk(random, weight, weight * random.uniform(0.93, 1.03), 0.6, visits, 1)
        self._labs = {lab: walk(random, *_LAB_RANGES[lab][:3], visits, _LAB_RANGES[lab][3]) for lab in _LABS}

    def measured(self, place: Measured, visit: int) -> list[Json]:
        """The observations of a visit; the height is taken at the first one only."""
        height = [(HEIGHT, self._height)] if visit == 0 else []
        numbers = [
            *height,
            (HEART_RATE, self._pulse[visit]),
            (WEIGHT, self._weight[visit]),
            (BODY_MASS_INDEX, self._index(visit)),
        ]
        pressure = blood_pressure(place, self._systolic[visit], self._diastolic[visit])
        return [pressure, *(measurement(place, measure, value, laboratory=False) for measure, value in numbers)]

    def sentence(self, visit: int) -> str:
        """The same in a note's words."""
        return (
            f"BP {self._systolic[visit]}/{self._diastolic[visit]}, pulse {self._pulse[visit]}, "
            f"weight {self._weight[visit]} kg (BMI {self._index(visit)})."
        )

    def lab(self, lab: Lab, visit: int) -> Decimal:
        return self._labs[lab][visit]

    def _index(self, visit: int) -> Decimal:
        return round(self._weight[visit] / (self._height / 100) ** 2, 1)
