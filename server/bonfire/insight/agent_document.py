"""The agent context's document: what a language model should know of a patient, each statement with its source.

Pure: chart rows in, document out. What a section leaves out is counted in `omitted`, so that nobody takes a part for
the whole.
"""

from collections.abc import Iterable, Sequence
from decimal import Decimal
from typing import Literal, get_args

from msgspec import Struct

from bonfire.insight.fhir_read import concept_text, dig, document_title, items_at, plain_text, text_at
from bonfire_protocol.values import Json

NOTE_CHARACTERS = 4000

Section = Literal["patient", "problems", "medications", "allergies", "scores", "encounters", "notes"]
SECTIONS: tuple[Section, ...] = get_args(Section)


class ChartRow(Struct, frozen=True):
    """One record of a section, as `bonfire.chart` gives it: sections in order, the most telling record first; `total`
    counts the section's records in all (of scores: the kinds); `medication` is the code of a Medication referred to."""

    section: Section
    resource_type: str
    id: str
    version: int
    resource: Json
    total: int
    medication: Json | None = None


class Part(Struct, frozen=True, rename="camel", omit_defaults=True):
    """Fields without a value are left out."""


class Origin(Part, frozen=True):
    """Where a statement comes from: this version of this record."""

    type: str
    id: str
    version: str


class Person(Part, frozen=True):
    origin: Origin
    name: str | None = None
    gender: str | None = None
    birth_date: str | None = None
    deceased: bool = False


class Problem(Part, frozen=True):
    origin: Origin
    text: str
    since: str | None = None
    status: str | None = None


class Medication(Part, frozen=True):
    origin: Origin
    text: str
    dosage: str | None = None
    since: str | None = None
    status: str | None = None


class Allergy(Part, frozen=True):
    origin: Origin
    text: str
    criticality: str | None = None
    reactions: list[str] = []


class Measured(Part, frozen=True):
    origin: Origin
    value: Decimal | None = None
    at: str | None = None


class Score(Part, frozen=True):
    """The newest value of one kind of score, and the one before it."""

    text: str
    latest: Measured
    unit: str | None = None
    code: str | None = None
    previous: Measured | None = None


class Encounter(Part, frozen=True):
    origin: Origin
    text: str
    start: str | None = None
    end: str | None = None
    status: str | None = None


class Note(Part, frozen=True):
    """`text` is cut to NOTE_CHARACTERS; `characters` is its length before that."""

    origin: Origin
    title: str
    text: str
    characters: int
    status: Literal["draft", "final", "amended"]
    date: str | None = None
    author: str | None = None


class AgentDocument(Part, frozen=True):
    """The document. `omitted` says how many of a section's records are not in it."""

    patient: Person
    problems: list[Problem] = []
    medications: list[Medication] = []
    allergies: list[Allergy] = []
    scores: list[Score] = []
    encounters: list[Encounter] = []
    notes: list[Note] = []
    omitted: dict[str, int] = {}


def build_document(rows: Iterable[ChartRow]) -> AgentDocument | None:
    """The document of one patient. None when there is no such patient."""
    by_section: dict[Section, list[ChartRow]] = {section: [] for section in SECTIONS}
    for row in rows:
        by_section[row.section].append(row)
    if not by_section["patient"]:
        return None
    scores = _scores(by_section["scores"])
    shown = {section: len(found) for section, found in by_section.items()} | {"scores": len(scores)}
    return AgentDocument(
        patient=_person(by_section["patient"][0]),
        problems=[_problem(row) for row in by_section["problems"]],
        medications=[_medication(row) for row in by_section["medications"]],
        allergies=[_allergy(row) for row in by_section["allergies"]],
        scores=scores,
        encounters=[_encounter(row) for row in by_section["encounters"]],
        notes=[_note(row) for row in by_section["notes"]],
        omitted={
            section: found[0].total - shown[section]
            for section, found in by_section.items()
            if found and found[0].total > shown[section]
        },
    )


def _origin(row: ChartRow) -> Origin:
    return Origin(row.resource_type, row.id, str(row.version))


def _person(row: ChartRow) -> Person:
    # The official name where one is said to be; otherwise the first.
    names = sorted(items_at(row.resource, "name"), key=lambda name: dig(name, "use") != "official")
    given = [text for text in (text_at({"given": part}, "given") for part in items_at(names, 0, "given")) if text]
    spelled = " ".join([*given, text_at(names, 0, "family") or ""]).strip()
    deceased = dig(row.resource, "deceasedBoolean") is True or text_at(row.resource, "deceasedDateTime") is not None
    return Person(
        _origin(row),
        name=text_at(names, 0, "text") or spelled or None,
        gender=text_at(row.resource, "gender"),
        birth_date=text_at(row.resource, "birthDate"),
        deceased=deceased,
    )


def _problem(row: ChartRow) -> Problem:
    return Problem(
        _origin(row),
        concept_text(dig(row.resource, "code")) or "Problem without a name",
        since=text_at(row.resource, "onsetDateTime") or text_at(row.resource, "recordedDate"),
        status=text_at(row.resource, "clinicalStatus", "coding", 0, "code"),
    )


def _medication(row: ChartRow) -> Medication:
    resource = row.resource
    contained = next((part for part in items_at(resource, "contained") if dig(part, "code") is not None), None)
    names = (
        concept_text(dig(resource, "medicationCodeableConcept")),
        concept_text(row.medication),
        text_at(resource, "medicationReference", "display"),
        concept_text(dig(contained, "code")),
    )
    instructions = "dosageInstruction" if row.resource_type == "MedicationRequest" else "dosage"
    dosages = [text for dosage in items_at(resource, instructions) if (text := text_at(dosage, "text"))]
    return Medication(
        _origin(row),
        next((name for name in names if name), "Medication without a name"),
        dosage="; ".join(dosages) or None,
        since=text_at(resource, "authoredOn")
        or text_at(resource, "effectiveDateTime")
        or text_at(resource, "effectivePeriod", "start"),
        status=text_at(resource, "status"),
    )


def _allergy(row: ChartRow) -> Allergy:
    reactions = [
        text
        for reaction in items_at(row.resource, "reaction")
        for manifestation in items_at(reaction, "manifestation")
        if (text := concept_text(manifestation))
    ]
    return Allergy(
        _origin(row),
        concept_text(dig(row.resource, "code")) or "Allergy without a name",
        criticality=text_at(row.resource, "criticality"),
        reactions=list(dict.fromkeys(reactions)),
    )


def _scores(rows: Sequence[ChartRow]) -> list[Score]:
    """One entry per kind; the rows of a kind stand together, the newest first."""
    scores: list[Score] = []
    for row in rows:
        measured = Measured(_origin(row), _number(row.resource), _taken(row.resource))
        code = text_at(row.resource, "code", "coding", 0, "code")
        text = concept_text(dig(row.resource, "code")) or "Score without a name"
        last = scores[-1] if scores else None
        if last is not None and last.previous is None and (last.code or last.text) == (code or text):
            scores[-1] = Score(last.text, last.latest, last.unit, last.code, previous=measured)
        else:
            scores.append(Score(text, measured, text_at(row.resource, "valueQuantity", "unit"), code))
    return scores


def _number(resource: Json) -> Decimal | None:
    match resource.get("valueInteger", dig(resource, "valueQuantity", "value")):
        case bool():
            return None
        case int() | Decimal() as number:
            return Decimal(number)
        case _:
            return None


def _taken(resource: Json) -> str | None:
    return (
        text_at(resource, "effectiveDateTime")
        or text_at(resource, "effectivePeriod", "start")
        or text_at(resource, "issued")
    )


def _encounter(row: ChartRow) -> Encounter:
    resource = row.resource
    return Encounter(
        _origin(row),
        concept_text(dig(resource, "type", 0)) or concept_text(dig(resource, "class")) or "Encounter",
        start=text_at(resource, "period", "start"),
        end=text_at(resource, "period", "end"),
        status=text_at(resource, "status"),
    )


def _note(row: ChartRow) -> Note:
    text = plain_text(row.resource)
    return Note(
        _origin(row),
        document_title(row.resource),
        text[:NOTE_CHARACTERS],
        len(text),
        status=_note_status(text_at(row.resource, "docStatus")),
        date=text_at(row.resource, "date"),
        author=next(
            (name for author in items_at(row.resource, "author") if (name := text_at(author, "display"))), None
        ),
    )


def _note_status(doc_status: str | None) -> Literal["draft", "final", "amended"]:
    match doc_status:
        case "preliminary":
            return "draft"
        case "amended":
            return "amended"
        case _:
            # Documents from elsewhere often say nothing: they were sent as finished ones.
            return "final"
