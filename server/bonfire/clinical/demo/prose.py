"""The text of a visit's note, put together from what the chart holds."""

from dataclasses import dataclass
from random import Random

from bonfire.clinical.demo.people import Person
from bonfire.clinical.demo.problems import Problem

_OPENINGS = (
    "{given} is here for {reason}.",
    "Seen for {reason}. Arrived on time, came alone.",
    "{reason_upper}. History from the patient, who is a good historian.",
    "Visit for {reason}. Chart and medication list reviewed beforehand.",
)
_INTERPRETER = "The {language} interpreter was on the line throughout."
_WELL = (
    "No new complaints. Reviewed medications, allergies and the family history; no changes.",
    "Feels well overall. Works full time, lives with family, exercises twice a week.",
    "Here to go through the preventive list together. Nothing new since the last visit.",
)
_EXAM = (
    "Looks well, in no distress. Heart regular without murmur, lungs clear, abdomen soft.",
    "Comfortable, speaks in full sentences. Lungs clear. No edema.",
    "Well appearing. Neck supple, thyroid not enlarged. Gait steady.",
)
_MENTAL_STATE = (
    "Groomed, good eye contact. Speech normal in rate. Thought process linear. Denies thoughts of death or self-harm.",
    "Tearful once, otherwise engaged. Affect somewhat restricted, reactive. No suicidal ideation, no plan, no intent.",
    "Restless in the chair at first, settled. Affect full. Insight good, judgment good. Denies suicidal thoughts.",
)
_CLOSINGS = (
    "Return in {weeks} weeks, sooner if anything changes.",
    "Follow-up in {weeks} weeks. Questions answered; written summary sent to the portal.",
    "Next visit in {weeks} weeks. {She} repeated the plan in {her} own words.",
)
_TELEPHONE = (
    "Called about the refill: dose, pharmacy and last visit checked; sent. No new symptoms.",
    "Called with the results. In range; no change to the plan. {She} was glad to hear it and had no questions.",
    "Called back after a message: more tired in the first week on the new tablet. Expected, usually passes. Will call "
    "again in ten days.",
    "Phone check-in between visits. Doing the exercises on most days. Confirmed the next appointment.",
)
_TRENDS = {
    "down": "an improvement over the last visit",
    "up": "higher than at the last visit",
    "same": "about the same as at the last visit",
}


@dataclass(frozen=True)
class ScoreLine:
    """A score of this visit, and the one before it (None: the first)."""

    name: str
    total: int
    before: int | None


def visit_note(
    random: Random,
    person: Person,
    reason: str,
    problems: list[Problem],
    scores: list[ScoreLine],
    vitals: str | None,
    weeks: int,
) -> str:
    """A visit's note: what brought the person, what was found, what was agreed."""
    words = _words(person)
    opening = random.choice(_OPENINGS).format(
        given=person.given, reason=reason, reason_upper=reason[:1].upper() + reason[1:], **words
    )
    if person.language != "English" and random.random() < 0.4:
        opening += " " + _INTERPRETER.format(language=person.language)
    history = [random.choice(problem.history).format(**words) for problem in problems] or [random.choice(_WELL)]
    findings = [score_sentence(score) for score in scores]
    if vitals is not None:
        findings.insert(0, vitals)
    behavioural = any(problem.behavioural for problem in problems)
    findings.append(random.choice(_MENTAL_STATE if behavioural else _EXAM))
    plans = [
        f"{problem.snomed[1]}: {sentence.format(**words)}"
        for problem in problems
        for sentence in random.sample(problem.plan, k=min(len(problem.plan), random.randint(1, 2)))
    ] or ["Preventive care: screenings up to date; vaccines as listed."]
    closing = random.choice(_CLOSINGS).format(weeks=weeks, **words)
    return "\n\n".join(
        [
            " ".join([opening, *history]),
            " ".join(findings),
            "\n".join(["Plan", *(f"- {plan}" for plan in plans)]),
            closing,
        ]
    )


def telephone_note(random: Random, person: Person) -> str:
    """A call's note: one paragraph."""
    return random.choice(_TELEPHONE).format(**_words(person))


def score_sentence(score: ScoreLine) -> str:
    """`PHQ-9 is 12, an improvement over the last visit (17).`"""
    if score.before is None:
        return f"{score.name} is {score.total}, the first one on record."
    change = score.total - score.before
    trend = "down" if change <= -2 else "up" if change >= 2 else "same"
    return f"{score.name} is {score.total}, {_TRENDS[trend]} ({score.before})."


def _words(person: Person) -> dict[str, str]:
    if person.sex == "female":
        return {"she": "she", "She": "She", "her": "her"}
    return {"she": "he", "She": "He", "her": "his"}
