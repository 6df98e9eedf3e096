"""The agent context as text for a language model's prompt: bounded, every statement with its source.

Pure. Sections go in by what is most dangerous to leave out; what does not fit is counted at the end, so that the model
knows that it does not see everything. A note's lines are marked, so that a note can't pass for another section.
"""

from collections.abc import Iterator
from decimal import Decimal

from bonfire.insight.agent_document import (
    AgentDocument,
    Allergy,
    Encounter,
    Measured,
    Medication,
    Note,
    Origin,
    Person,
    Problem,
    Score,
    Section,
)

MIN_CHARACTERS = 500

# Room for the line that says what was left out, the longest that it can get.
_RESERVED = 160
_CUT = " [...]"


def prompt_text(document: AgentDocument, max_characters: int = 12_000) -> str:
    """`document` as text of at most `max_characters` (some four to a token). ValueError below MIN_CHARACTERS."""
    if max_characters < MIN_CHARACTERS:
        raise ValueError(f"a prompt needs room for {MIN_CHARACTERS} characters at least")
    room = max_characters - _RESERVED
    left_out = dict(document.omitted)
    blocks: list[str] = []
    heading: Section | None = None
    full: set[Section] = set()
    for section, block in _blocks(document):
        title = "" if heading == section or section == "patient" else f"{_TITLES[section]}:\n"
        space = room - len(title) - 1
        if section == "notes" and len(block) > space >= MIN_CHARACTERS:
            block = block[: space - len(_CUT)] + _CUT
        if section == "patient":
            block = block[:space]
        # A section is cut at its end: what comes later must not look more telling than what was left out.
        if section in full or len(block) > space:
            full.add(section)
            left_out[section] = left_out.get(section, 0) + 1
            continue
        blocks.append(title + block)
        room -= len(title) + len(block) + 1
        heading = section
    if left_out:
        blocks.append("Left out: " + ", ".join(f"{count} {section}" for section, count in left_out.items()) + ".")
    return "\n".join(blocks)


_TITLES: dict[Section, str] = {
    "patient": "Patient",
    "allergies": "Allergies",
    "problems": "Problems",
    "medications": "Medications",
    "scores": "Scores",
    "encounters": "Last encounters",
    "notes": "Last notes",
}


def _blocks(document: AgentDocument) -> Iterator[tuple[Section, str]]:
    yield "patient", _patient(document.patient)
    yield from (("allergies", _allergy(one)) for one in document.allergies)
    yield from (("problems", _problem(one)) for one in document.problems)
    yield from (("medications", _medication(one)) for one in document.medications)
    yield from (("scores", _score(one)) for one in document.scores)
    yield from (("encounters", _encounter(one)) for one in document.encounters)
    yield from (("notes", _note(one)) for one in document.notes)


def _line(origin: Origin, *parts: str | None) -> str:
    return f"- {', '.join(part for part in parts if part)} {_source(origin)}"


def _source(origin: Origin) -> str:
    return f"[{origin.type}/{origin.id} v{origin.version}]"


def _day(time: str | None) -> str | None:
    return time[:10] if time else None


def _since(time: str | None) -> str | None:
    return f"since {_day(time)}" if time else None


def _patient(person: Person) -> str:
    born = f"born {person.birth_date}" if person.birth_date else None
    facts = [person.name or "no name", person.gender, born, "deceased" if person.deceased else None]
    return f"Patient: {', '.join(fact for fact in facts if fact)} {_source(person.origin)}"


def _problem(problem: Problem) -> str:
    return _line(problem.origin, problem.text, _since(problem.since), problem.status)


def _medication(medication: Medication) -> str:
    return _line(medication.origin, medication.text, medication.dosage, _since(medication.since), medication.status)


def _allergy(allergy: Allergy) -> str:
    criticality = f"criticality {allergy.criticality}" if allergy.criticality else None
    reactions = f"reaction: {'; '.join(allergy.reactions)}" if allergy.reactions else None
    return _line(allergy.origin, allergy.text, criticality, reactions)


def _score(score: Score) -> str:
    before = score.previous
    previous = f"before: {_measured(before)} {_source(before.origin)}" if before else None
    return _line(score.latest.origin, f"{score.text}: {_measured(score.latest, score.unit)}", previous)


def _measured(measured: Measured, unit: str | None = None) -> str:
    value = "no number" if measured.value is None else _spelled(measured.value)
    taken = f"on {_day(measured.at)}" if measured.at else None
    return " ".join(part for part in (value, unit, taken) if part)


def _spelled(value: Decimal) -> str:
    return format(value, "f")


def _encounter(encounter: Encounter) -> str:
    return _line(encounter.origin, encounter.text, _day(encounter.start), encounter.status)


def _note(note: Note) -> str:
    status = "draft, not signed" if note.status == "draft" else note.status
    head = _line(note.origin, note.title, _day(note.date), f"by {note.author}" if note.author else None, status)
    cut = _CUT if note.characters > len(note.text) else ""
    return "\n".join([head, *(f"  | {line}" for line in (note.text + cut).splitlines())])
