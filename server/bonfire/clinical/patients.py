"""Patients: who the records are about."""

from datetime import date
from typing import Annotated, Literal

from msgspec import UNSET, Meta, UnsetType

from bonfire.clinical.arguments import Value
from bonfire.clinical.contexts import MutationContext, QueryContext
from bonfire.clinical.depends import Depends
from bonfire.clinical.mutations import Subject
from bonfire.clinical.registry import Registry
from bonfire_protocol.values import Json

Gender = Literal["male", "female", "other", "unknown"]
NamePart = Annotated[str, Meta(min_length=1, max_length=200, pattern=r"\S")]
ContactPoint = Annotated[str, Meta(min_length=1, max_length=200)]

MRN_SYSTEM = "urn:bonfire:mrn"
_MRN_TYPE = {
    "coding": [
        {
            "system": "http://terminology.hl7.org/CodeSystem/v2-0203",
            "code": "MR",
            "display": "Medical record number",
        }
    ]
}

patients = Registry()


class Patient(Value, frozen=True):
    """A patient. `name` is what people read; `identifier` the medical record number; `version` the
    record's version id; `deceased_at` is FHIR's date or time of death, and null too where only the fact is known."""

    id: str
    version: str
    name: str
    given: str | None
    family: str | None
    birth_date: str | None
    gender: Gender | None
    identifier: str | None
    phone: str | None
    email: str | None
    active: bool
    deceased: bool
    deceased_at: str | None


@patients.mutation("patients.create")
async def create(
    ctx: MutationContext,
    given: NamePart,
    family: NamePart,
    birth_date: date | None = None,
    gender: Gender | None = None,
    identifier: NamePart | None = None,
    phone: ContactPoint | None = None,
    email: ContactPoint | None = None,
) -> Patient:
    """Registers a patient; `identifier` is the medical record number."""
    resource: Json = {"resourceType": "Patient", "active": True, "name": [human_name(given, family)]}
    if identifier is not None:
        resource["identifier"] = [mrn_identifier(identifier)]
    if birth_date is not None:
        resource["birthDate"] = birth_date.isoformat()
    if gender is not None:
        resource["gender"] = gender
    for system, value in (("phone", phone), ("email", email)):
        _set_contact(resource, system, value)
    return patient_of(await ctx.create(resource))


@patients.mutation("patients.update", subject=Subject("Patient", "patient_id"))
async def update(
    ctx: MutationContext,
    patient_id: str,
    given: NamePart | UnsetType = UNSET,
    family: NamePart | UnsetType = UNSET,
    birth_date: date | UnsetType | None = UNSET,
    gender: Gender | UnsetType | None = UNSET,
    phone: ContactPoint | UnsetType | None = UNSET,
    email: ContactPoint | UnsetType | None = UNSET,
    active: bool | UnsetType = UNSET,
) -> Patient:
    """Changes what is given and leaves the rest; null takes a value away."""
    resource = await ctx.require("Patient", patient_id, field="patientId")
    known = patient_of(resource)
    if given is not UNSET or family is not UNSET:
        name = human_name(
            known.given or "" if given is UNSET else given,
            known.family or "" if family is UNSET else family,
        )
        names = resource.get("name", [])
        # Other names (maiden, nickname) stay.
        resource["name"] = [name, *(other for other in names if other is not _name_in_use(resource))]
    if birth_date is not UNSET:
        _set(resource, "birthDate", birth_date.isoformat() if birth_date is not None else None)
    if gender is not UNSET:
        _set(resource, "gender", gender)
    if phone is not UNSET:
        _set_contact(resource, "phone", phone)
    if email is not UNSET:
        _set_contact(resource, "email", email)
    if active is not UNSET:
        resource["active"] = active
    return patient_of(await ctx.update(resource))


@patients.query("patients.get", depends=[Depends("Patient", patient="patient_id")])
async def get(ctx: QueryContext, patient_id: str) -> Patient | None:
    """One patient; null where there is none."""
    resource = await ctx.read("Patient", patient_id)
    return None if resource is None else patient_of(resource)


class PatientRow(Value, frozen=True):
    """A patient in a list."""

    id: str
    name: str
    family: str | None
    given: str | None
    birth_date: str | None
    gender: str | None
    identifier: str | None
    active: bool
    deceased: bool
    version: str
    updated_at: str


class Search(Value, frozen=True):
    """What to look for: each word of `text` has to be somewhere in the name or the medical record number."""

    text: Annotated[str, Meta(min_length=1, max_length=100)]
    limit: Annotated[int, Meta(ge=1, le=100)] = 50


patients.sql(
    "patients.search",
    r"""
    select p.id, p.name, p.family, p.given, p.birth_date, p.gender, p.identifier, p.active, p.deceased, p.version,
           bonfire.instant_text(p.updated_at) as updated_at
    from read.patients p
    where not exists (
      select from regexp_split_to_table(lower(:text), '[[:space:]]+') word
      where position(word in lower(concat_ws(' ', p.given, p.family, p.name, p.identifier))) = 0
    )
    order by p.family, p.given, p.id
    limit :limit
    """,
    args=Search,
    row=PatientRow,
    depends=[Depends("Patient")],
    doc="Patients whose name or medical record number holds each word of `text`, by name.",
)


def human_name(given: str, family: str) -> Json:
    """A HumanName of given names (parted by spaces) and a family name; an empty part is left out."""
    name: Json = {"use": "official", "text": f"{given} {family}".strip()}
    if family:
        name["family"] = family
    if given.split():
        name["given"] = given.split()
    return name


def mrn_identifier(mrn: str) -> Json:
    """A medical record number."""
    return {"use": "usual", "type": _MRN_TYPE, "system": MRN_SYSTEM, "value": mrn}


def patient_of(resource: Json) -> Patient:
    """The patient in a Patient resource, ours or imported."""
    name = _name_in_use(resource)
    given = " ".join(name.get("given", ())) or None
    family = name.get("family")
    text = name.get("text") or " ".join(part for part in (given, family) if part)
    return Patient(
        id=resource["id"],
        version=resource["meta"]["versionId"],
        name=text or "(no name)",
        given=given,
        family=family,
        birth_date=resource.get("birthDate"),
        gender=resource.get("gender"),
        identifier=_identifier(resource),
        phone=_contact(resource, "phone"),
        email=_contact(resource, "email"),
        active=resource.get("active", True),
        deceased=bool(resource.get("deceasedBoolean", "deceasedDateTime" in resource)),
        deceased_at=resource.get("deceasedDateTime"),
    )


def _name_in_use(resource: Json) -> Json:
    """The official name, else the first one."""
    names: list[Json] = resource.get("name", [])
    return next((name for name in names if name.get("use") == "official"), names[0] if names else {})


def _identifier(resource: Json) -> str | None:
    for identifier in resource.get("identifier", ()):
        codes = [coding.get("code") for coding in identifier.get("type", {}).get("coding", ())]
        if "MR" in codes or identifier.get("system") == MRN_SYSTEM:
            value: str | None = identifier.get("value")
            return value
    return None


def _contact(resource: Json, system: str) -> str | None:
    return next(
        (point.get("value") for point in resource.get("telecom", ()) if point.get("system") == system),
        None,
    )


def _set_contact(resource: Json, system: str, value: str | None) -> None:
    others = [point for point in resource.get("telecom", ()) if point.get("system") != system]
    own = [{"system": system, "value": value}] if value is not None else []
    _set(resource, "telecom", own + others or None)


def _set(resource: Json, element: str, value: object) -> None:
    # FHIR has no nulls and no empty lists: what is not there is left out.
    if value is None:
        resource.pop(element, None)
    else:
        resource[element] = value
