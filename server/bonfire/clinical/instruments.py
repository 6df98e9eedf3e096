"""The questionnaires that are scored here: their codes, their items, and what a total means."""

from dataclasses import dataclass

from bonfire.clinical.references import LOINC
from bonfire_protocol.values import Json

_ORDINAL = "http://hl7.org/fhir/StructureDefinition/ordinalValue"

ANSWERS = (
    ("LA6568-5", "Not at all"),
    ("LA6569-3", "Several days"),
    ("LA6570-1", "More than half the days"),
    ("LA6571-9", "Nearly every day"),
)
"""What both questionnaires let a person answer; the place in this list is the answer's score."""


@dataclass(frozen=True)
class Instrument:
    """A questionnaire of items scored 0 to 3. `code` is ours, `total` and `panel` LOINC's codes of the sum and of the
    form; `items` (LOINC code, what is asked about); `bands` (least total, severity), ascending."""

    code: str
    name: str
    total: tuple[str, str]
    panel: str
    items: tuple[tuple[str, str], ...]
    bands: tuple[tuple[int, str], ...]

    @property
    def maximum(self) -> int:
        return (len(ANSWERS) - 1) * len(self.items)

    def severity(self, total: int) -> str:
        """The band that a total falls into."""
        return [severity for least, severity in self.bands if total >= least][-1]

    def answered(self, answers: list[int]) -> list[Json]:
        """The items of a QuestionnaireResponse; one answer (0 to 3) for each item, in order."""
        return [
            {"linkId": f"/{code}", "text": text, "answer": [{"valueCoding": _coding(answer)}]}
            for (code, text), answer in zip(self.items, answers, strict=True)
        ]


def _coding(answer: int) -> Json:
    code, display = ANSWERS[answer]
    return {
        "extension": [{"url": _ORDINAL, "valueDecimal": answer}],
        "system": LOINC,
        "code": code,
        "display": display,
    }


PHQ_9 = Instrument(
    code="phq-9",
    name="PHQ-9",
    total=("44261-6", "Patient Health Questionnaire 9 item (PHQ-9) total score [Reported]"),
    panel="44249-1",
    items=(
        ("44250-9", "Interest or pleasure"),
        ("44255-8", "Low mood"),
        ("44259-0", "Sleep"),
        ("44254-1", "Energy"),
        ("44251-7", "Appetite"),
        ("44258-2", "Self-regard"),
        ("44252-5", "Concentration"),
        ("44253-3", "Slowed or restless"),
        ("44260-8", "Thoughts of death or self-harm"),
    ),
    bands=((0, "minimal"), (5, "mild"), (10, "moderate"), (15, "moderately severe"), (20, "severe")),
)

GAD_7 = Instrument(
    code="gad-7",
    name="GAD-7",
    total=("70274-6", "Generalized anxiety disorder 7 item (GAD-7) total score [Reported.PHQ]"),
    panel="69737-5",
    items=(
        ("69725-0", "Nervous or on edge"),
        ("68509-9", "Unable to stop worrying"),
        ("69733-4", "Worrying too much"),
        ("69734-2", "Trouble relaxing"),
        ("69735-9", "Restless"),
        ("69689-8", "Irritable"),
        ("69736-7", "Afraid that something awful might happen"),
    ),
    bands=((0, "minimal"), (5, "mild"), (10, "moderate"), (15, "severe")),
)

INSTRUMENTS = {instrument.code: instrument for instrument in (PHQ_9, GAD_7)}
