"""Who the synthetic people are: names of the many origins that a city clinic sees, addresses that do not exist."""

from dataclasses import dataclass
from datetime import date, timedelta
from random import Random
from typing import Literal

Sex = Literal["female", "male"]


@dataclass(frozen=True)
class Names:
    """Given names and family names that go together."""

    female: tuple[str, ...]
    male: tuple[str, ...]
    family: tuple[str, ...]


@dataclass(frozen=True)
class Person:
    """A made-up person."""

    given: str
    family: str
    sex: Sex
    birth_date: date
    phone: str
    email: str
    street: str
    town: str
    postal_code: str
    language: str


@dataclass(frozen=True)
class Clinician:
    """A made-up member of the clinic's staff."""

    key: str
    given: str
    family: str
    suffix: str
    role: str

    @property
    def name(self) -> str:
        return f"{self.given} {self.family}, {self.suffix}"


CLINICIANS = (
    Clinician("lindqvist", "Maren", "Lindqvist", "MD", "Family medicine"),
    Clinician("adeyemi", "Tunde", "Adeyemi", "MD", "Internal medicine"),
    Clinician("castellanos", "Rocío", "Castellanos", "NP", "Primary care"),
    Clinician("whitfield", "Joanna", "Whitfield", "PsyD", "Psychology"),
    Clinician("raghunathan", "Vikram", "Raghunathan", "MD", "Psychiatry"),
)
PRIMARY_CARE = CLINICIANS[:3]
BEHAVIOURAL = CLINICIANS[3:]

_NAMES: tuple[tuple[Names, str], ...] = (
    (
        Names(
            ("Margaret", "Claire", "Hannah", "Judith", "Abigail", "Rosemary"),
            ("Walter", "Gregory", "Owen", "Daniel", "Russell", "Peter"),
            ("Harlow", "Pemberton", "Ashcroft", "Dunmore", "Whitaker", "Salter"),
        ),
        "English",
    ),
    (
        Names(
            ("Guadalupe", "Marisol", "Ximena", "Teresa", "Alma"),
            ("Joaquín", "Rafael", "Emiliano", "Hector", "Luis"),
            ("Villanueva", "Barrientos", "Quintero", "Escobedo", "Montes de Oca"),
        ),
        "Spanish",
    ),
    (
        Names(
            ("Adaeze", "Folake", "Ngozi", "Amina", "Yewande"),
            ("Chidi", "Kwame", "Babatunde", "Emeka", "Kofi"),
            ("Okonjo", "Mensah", "Adebayo", "Nwachukwu", "Boateng"),
        ),
        "English",
    ),
    (
        Names(
            ("Mei", "Xiuying", "Lan", "Yuting"),
            ("Wei", "Jianhong", "Bo", "Haoran"),
            ("Zhao", "Liang", "Fong", "Ouyang"),
        ),
        "Chinese",
    ),
    (
        Names(
            ("Priya", "Lakshmi", "Anjali", "Farhana"),
            ("Arjun", "Sanjay", "Imran", "Harpreet"),
            ("Iyer", "Deshmukh", "Chowdhury", "Sandhu"),
        ),
        "English",
    ),
    (
        Names(
            ("Linh", "Thu", "Hoa"),
            ("Minh", "Quang", "Tuan"),
            ("Nguyen", "Pham", "Truong"),
        ),
        "Vietnamese",
    ),
    (
        Names(
            ("Katarzyna", "Milena", "Oksana", "Ludmila"),
            ("Tomasz", "Bogdan", "Andriy", "Stanislav"),
            ("Wieczorek", "Kovalenko", "Nowicki", "Hrytsenko"),
        ),
        "English",
    ),
    (
        Names(
            ("Leila", "Nadia", "Samira"),
            ("Karim", "Yusuf", "Dariush"),
            ("Haddad", "Farahani", "Mansour"),
        ),
        "Arabic",
    ),
    (
        Names(
            ("Denise", "Latoya", "Beverly", "Simone"),
            ("Terrence", "Marcus", "Cedric", "Isaiah"),
            ("Broadnax", "Gaines", "Toussaint", "Merriweather"),
        ),
        "English",
    ),
    (
        Names(
            ("Leilani", "Malia", "Sina"),
            ("Keoni", "Tavita", "Makoa"),
            ("Kealoha", "Tuiasosopo", "Kahananui"),
        ),
        "English",
    ),
    (
        Names(
            ("Ayiana", "Winona", "Shania"),
            ("Elan", "Dakota", "Wesley"),
            ("Begay", "Tsosie", "Yazzie"),
        ),
        "English",
    ),
)
_STREETS = ("Alder", "Quarry", "Mill Pond", "Juniper", "Ferry", "Lantern", "Orchard", "Canal", "Heron", "Summit")
_STREET_KINDS = ("Street", "Lane", "Avenue", "Court", "Road")
_TOWNS = (("Eastmere", "00501"), ("Port Alden", "00502"), ("Willow Bend", "00503"), ("Cray Harbor", "00504"))


def draw_person(random: Random, taken: set[tuple[str, str]], today: date) -> Person:
    """An adult (or nearly: 16 to 89) whose given and family name together are not `taken`, which is added to."""
    while True:
        names, language = random.choice(_NAMES)
        sex: Sex = random.choice(("female", "male"))
        given = random.choice(names.female if sex == "female" else names.male)
        family = random.choice(names.family)
        if (given, family) not in taken:
            break
    taken.add((given, family))
    # A waiting room of two crowds: young adults in therapy, and the older ones with their lists of problems.
    age = random.triangular(16, 89, random.choice((27, 60)))
    birth_date = today - timedelta(days=round(age * 365.25))
    town, postal_code = random.choice(_TOWNS)
    mailbox = "".join(letter for letter in f"{given}.{family}".lower() if letter.isalpha() or letter == ".")
    return Person(
        given=given,
        family=family,
        sex=sex,
        birth_date=birth_date,
        # 555-01xx numbers are set aside for fiction.
        phone=f"({random.randint(201, 989)}) 555-01{random.randint(0, 99):02d}",
        email=f"{mailbox}@example.org",
        street=f"{random.randint(2, 980)} {random.choice(_STREETS)} {random.choice(_STREET_KINDS)}",
        town=town,
        postal_code=postal_code,
        language=language,
    )
