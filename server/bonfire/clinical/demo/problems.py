"""The problems of an outpatient clinic: how often, at what age, how treated, and what is written about them.

A medication has a code where it is certain, and only words where it is not. Words in braces are filled in by the
person's sex: {she}, {She}, {her}.
"""

from dataclasses import dataclass
from typing import Literal

Course = Literal["phq9", "gad7"]
Lab = Literal["a1c", "ldl", "tsh"]


@dataclass(frozen=True)
class Medication:
    """`name` as on a prescription; `rxnorm` its (code, display); `dose` the instruction to the patient."""

    name: str
    dose: str
    rxnorm: tuple[str, str] | None = None


@dataclass(frozen=True)
class Problem:
    """`snomed` (code, display); `share` of the people between the ages who have it; `years` since when at most;
    `courses` the scores followed with it; `labs` the tests. `history` and `plan` are sentences for a visit's note."""

    key: str
    snomed: tuple[str, str]
    share: float
    ages: tuple[int, int]
    years: int
    medications: tuple[Medication, ...]
    history: tuple[str, ...]
    plan: tuple[str, ...]
    behavioural: bool = False
    courses: tuple[Course, ...] = ()
    labs: tuple[Lab, ...] = ()


PROBLEMS = (
    Problem(
        "depression",
        ("370143000", "Major depressive disorder"),
        0.42,
        (16, 85),
        6,
        (
            Medication("Sertraline 50 mg tablet", "One tablet by mouth every morning"),
            Medication("Bupropion XL 150 mg tablet", "One tablet by mouth every morning"),
            Medication("Mirtazapine 15 mg tablet", "One tablet by mouth at bedtime"),
        ),
        (
            "Mood has been low on most days since the last visit; {she} still gets to work but lets calls go "
            "unanswered and has stopped cooking.",
            "Describes two better weeks, then a slide after an argument with {her} sister. Appetite is back, energy is "
            "not.",
            "Sleeping six to seven hours, waking around four about twice a week. Enjoys {her} morning walk again, "
            "which {she} had dropped for months.",
            "Says the flatness has lifted enough to notice the weekends. Concentration remains the main complaint: "
            "rereads the same page.",
        ),
        (
            "Continue the antidepressant at the present dose; reviewed that full effect takes six to eight weeks.",
            "Increase behavioral activation: two scheduled outings a week, logged.",
            "Safety plan reviewed and updated; crisis line on the card in {her} wallet.",
            "Repeat PHQ-9 at the next visit and decide on the dose then.",
        ),
        True,
        ("phq9",),
    ),
    Problem(
        "anxiety",
        ("21897009", "Generalized anxiety disorder"),
        0.34,
        (16, 75),
        8,
        (
            Medication("Escitalopram 10 mg tablet", "One tablet by mouth once a day"),
            Medication("Buspirone 10 mg tablet", "One tablet by mouth twice a day"),
        ),
        (
            "Worry is spread over money, {her} mother's health and small errands alike; shoulders ache by the evening.",
            "One panic-like episode in the supermarket, left the cart and sat in the car for ten minutes. None since.",
            "Uses the breathing exercise before meetings and finds that it shortens the spiral, if {she} starts early.",
            "Reports fewer checking messages to the family; down from dozens to a handful a day by {her} own count.",
        ),
        (
            "Worry postponement: a fixed fifteen minutes at five o'clock, everything else written down for then.",
            "Continue weekly CBT; exposure list drawn up, starting with driving the short bridge.",
            "No benzodiazepine; agreed on this together, with the reasons.",
            "Cut caffeine after noon and see whether the evening tension changes.",
        ),
        True,
        ("gad7",),
    ),
    Problem(
        "ptsd",
        ("47505003", "Posttraumatic stress disorder"),
        0.08,
        (20, 70),
        10,
        (Medication("Prazosin 1 mg capsule", "One capsule by mouth at bedtime"),),
        (
            "Nightmares three nights a week, down from nightly. Avoids the freeway where the collision was.",
            "Startles at slammed doors; sits facing the exit. Speaks of the event today without being asked.",
        ),
        (
            "Continue trauma-focused work at {her} pace; written account to be read aloud next session.",
            "Prazosin unchanged; blood pressure checked lying and standing.",
        ),
        True,
        ("phq9", "gad7"),
    ),
    Problem(
        "insomnia",
        ("193462001", "Insomnia"),
        0.16,
        (25, 85),
        4,
        (Medication("Melatonin 3 mg tablet", "One tablet by mouth an hour before bed"),),
        (
            "In bed from ten to seven, asleep for five of those hours by the diary that {she} kept.",
            "Falls asleep readily now, wakes at three and reads the news until morning.",
        ),
        (
            "Sleep window moved to eleven thirty until six; no naps, out of bed when awake for twenty minutes.",
            "Diary for two more weeks, then widen the window by a quarter of an hour.",
        ),
        True,
    ),
    Problem(
        "adhd",
        ("406506008", "Attention deficit hyperactivity disorder"),
        0.10,
        (16, 45),
        9,
        (Medication("Methylphenidate ER 18 mg tablet", "One tablet by mouth every morning"),),
        (
            "Finishes {her} reports on time on workdays with medication; evenings without it are scattered.",
            "Lost two jackets and a phone this quarter, which is fewer than in the last one.",
        ),
        (
            "Stimulant unchanged; pulse and blood pressure in range; prescription monitoring checked.",
            "One calendar, one list, looked at twice a day: at breakfast and when leaving work.",
        ),
        True,
    ),
    Problem(
        "hypertension",
        ("59621000", "Essential hypertension"),
        0.46,
        (38, 90),
        15,
        (
            Medication("Lisinopril 10 mg tablet", "One tablet by mouth once a day"),
            Medication("Amlodipine 5 mg tablet", "One tablet by mouth once a day"),
        ),
        (
            "Home readings run from the high 120s to the low 140s; brought the notebook.",
            "No headaches, no chest pain, no swelling of the ankles. Missed three doses while travelling.",
            "Has switched to the low-salt broth and reads labels now; eats out once a week.",
        ),
        (
            "Continue the present tablet; home readings twice a week, averaged, sent before the next visit.",
            "Potassium and creatinine with the next blood draw.",
            "Goal stays below 130 over 80; add a second agent if the average is above it in six weeks.",
        ),
    ),
    Problem(
        "diabetes",
        ("44054006", "Diabetes mellitus type 2"),
        0.24,
        (38, 88),
        12,
        (
            Medication(
                "Metformin ER 500 mg tablet",
                "Two tablets by mouth with the evening meal",
                ("860975", "24 HR Metformin hydrochloride 500 MG Extended Release Oral Tablet"),
            ),
            Medication("Empagliflozin 10 mg tablet", "One tablet by mouth every morning"),
        ),
        (
            "Fasting sugars between 118 and 150; the high ones follow late dinners.",
            "No numbness of the feet, no blurred vision, no lows. Walks after lunch on workdays.",
            "Stopped the sweet tea, kept the rice; portions measured with the small bowl.",
        ),
        (
            "Foot exam done today; eye exam due this quarter, referral sent.",
            "Continue metformin; A1c every three months until it is below 7.5, then twice a year.",
            "Met with the dietitian by video; next session in four weeks.",
        ),
        labs=("a1c", "ldl"),
    ),
    Problem(
        "hyperlipidemia",
        ("55822004", "Hyperlipidemia"),
        0.30,
        (40, 88),
        12,
        (Medication("Atorvastatin 20 mg tablet", "One tablet by mouth at bedtime"),),
        (
            "Takes the statin on most nights; no muscle aches since the dose was lowered.",
            "Asked whether {she} could stop now that the numbers are good; talked about what keeps them so.",
        ),
        (
            "Continue the statin; lipid panel once a year.",
            "Risk reviewed with the chart on the screen; agrees to go on.",
        ),
        labs=("ldl",),
    ),
    Problem(
        "asthma",
        ("195967001", "Asthma"),
        0.15,
        (16, 70),
        20,
        (
            Medication(
                "Albuterol inhaler 90 mcg",
                "Two puffs every four to six hours when needed",
                ("745679", "200 ACTUAT Albuterol 0.09 MG/ACTUAT Metered Dose Inhaler"),
            ),
        ),
        (
            "Rescue inhaler twice this month, both after the neighbor's wood smoke. No night waking.",
            "Ran the five-kilometer loop with one puff beforehand; no cough afterwards.",
        ),
        (
            "Inhaler technique watched and corrected: slower breath, ten-second hold.",
            "Written action plan renewed; flu shot given or due.",
        ),
    ),
    Problem(
        "hypothyroidism",
        ("40930008", "Hypothyroidism"),
        0.12,
        (30, 85),
        15,
        (Medication("Levothyroxine 75 mcg tablet", "One tablet by mouth every morning, before breakfast"),),
        (
            "Takes the tablet with water, coffee half an hour later. Weight steady, hair no longer thinning.",
            "More tired than usual and cold at the office; took the tablet with calcium for a while.",
        ),
        (
            "TSH today; adjust by 12.5 micrograms if it is out of range.",
            "Keep iron and calcium four hours apart from it.",
        ),
        labs=("tsh",),
    ),
    Problem(
        "reflux",
        ("235595009", "Gastroesophageal reflux disease"),
        0.18,
        (25, 85),
        8,
        (Medication("Omeprazole 20 mg capsule", "One capsule by mouth before breakfast"),),
        (
            "Burning two evenings a week, always after late meals. No trouble swallowing, no weight loss.",
            "Slept with the head of the bed raised; woke up with a sour taste once.",
        ),
        ("Step down to every other day for a month, then stop if quiet.", "Last meal three hours before bed."),
    ),
    Problem(
        "knee",
        ("239873007", "Osteoarthritis of knee"),
        0.20,
        (52, 90),
        10,
        (Medication("Diclofenac 1% gel", "Apply to the knee up to four times a day"),),
        (
            "The right knee stiffens after sitting and is best after the first hundred steps.",
            "Stairs down are worse than stairs up; no locking, no giving way.",
        ),
        (
            "Physical therapy: quadriceps program twice a week for eight weeks.",
            "Gel before oral tablets, given {her} blood pressure.",
        ),
    ),
    Problem(
        "back",
        ("279039007", "Low back pain"),
        0.16,
        (25, 75),
        4,
        (Medication("Naproxen 500 mg tablet", "One tablet by mouth twice a day with food, for up to ten days"),),
        (
            "Lifted a crate in the garage; the ache sits low on the left and does not run down the leg.",
            "Back at work with lighter duties; pain 3 of 10 in the morning, 5 by the evening.",
        ),
        (
            "No imaging: no red flags on history or exam.",
            "Keep moving; heat, short walks, return if the leg goes numb.",
        ),
    ),
    Problem(
        "migraine",
        ("37796009", "Migraine"),
        0.12,
        (16, 60),
        12,
        (Medication("Sumatriptan 50 mg tablet", "One tablet by mouth at the start of a headache"),),
        (
            "Four headache days last month by the app, two of them with aura; one spent in a dark room.",
            "The triptan works within the hour if {she} takes it before the pain peaks.",
        ),
        ("Triptan at onset, at most nine days a month.", "Start a diary of sleep and cycle against headache days."),
    ),
    Problem(
        "rhinitis",
        ("61582004", "Allergic rhinitis"),
        0.22,
        (16, 70),
        15,
        (Medication("Fluticasone nasal spray 50 mcg", "One spray in each nostril once a day"),),
        (
            "Sneezing since the birches bloomed; sleeps with the window shut.",
            "The spray helps when {she} remembers it.",
        ),
        ("Start the spray two weeks before the season next year.", "Saline rinse in the evening, spray after it."),
    ),
)
