"""A record's facets, before it is in the database: the twin of `bonfire.facets` (migration 0040), word for word.

What is decided of a record that shall be written must be what row-level security says of it afterwards. So this follows
Postgres to the letter, its lax JSON paths included, and a test holds the two against each other.
"""

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from bonfire.store.reach import PATIENT

Resource = Mapping[str, Any]

# What names who wrote a record, in R4's words.
_PEOPLE = ("author", "recorder", "requester", "performer", "asserter", "sender", "authenticator")
_USER = "urn:bonfire:user"
_PROVENANCE_PATIENT = "http://hl7.org/fhir/5.0/StructureDefinition/extension-Provenance.patient"

# The one element by which R4's patient compartment holds these types, for which it is neither subject nor patient.
_OWNERS = {
    "Coverage": "beneficiary",
    "Task": "for",
    "ResearchSubject": "individual",
    "EnrollmentRequest": "candidate",
    "AppointmentResponse": "actor",
    "SupplyRequest": "deliverTo",
}


def facets_of(resource_type: str, id: str, resource: Resource) -> frozenset[str]:
    """The words that policies ask for (docs/access.md lists them)."""
    words = [f"type:{resource_type}", f"{PATIENT}{patient_of(resource_type, id, resource) or ''}"]
    status = resource.get("status")
    draft = (resource.get("docStatus") == "preliminary" and status == "current") or (
        resource_type == "Composition" and status == "preliminary"
    )
    words.append("draft:true" if draft else "draft:false")
    labels = [f"label:{code}" for code in filter(None, _strings(_at([resource], "meta", "security", "code")))]
    words += labels or ["label:"]
    words += [f"category:{code}" for code in _strings(_at([resource], "category", "coding", "code"))]
    authors: list[str] = []
    for element in _PEOPLE:
        people = resource.get(element)
        authors += _users(people)
        if element == "performer":
            # Some types say beside each performer in which role: the person is one level down.
            authors += _users(list(_at([people], "actor")))
    return frozenset([*words, *(f"author:{user}" for user in authors or [""])])


def app_state_facets(collection: str, owner: str | None, patient: str | None) -> frozenset[str]:
    """The words of a document of app state: the twin of `bonfire.app_state_facets`."""
    return frozenset(
        [
            "type:AppState",
            f"{PATIENT}{patient or ''}",
            "draft:false",
            "label:",
            f"category:{collection}",
            f"author:{owner or ''}",
        ]
    )


def patient_of(resource_type: str, id: str, resource: Resource) -> str | None:
    """The patient whose record this is; None: it is nobody's. The twin of `bonfire.patient_of`."""
    match resource_type:
        case "Patient":
            return id
        case "Account":
            return _first_patient(_at(_elements(_at([resource], "subject")), "reference"))
        case "Appointment":
            return _first_patient(_at(_elements(_at([resource], "participant")), "actor", "reference"))
        case "Provenance":
            stated = [
                extension
                for extension in _elements(_at([resource], "extension"))
                if _PROVENANCE_PATIENT in _strings(_at([extension], "url"))
            ]
            for reference in _at(stated, "valueReference", "reference"):
                if (patient := _id_in(_text(reference), "Patient")) is not None:
                    return patient
                break
            return _first_patient(_at(_elements(_at([resource], "target")), "reference"))
        case _ if resource_type in _OWNERS:
            return _reference(resource, _OWNERS[resource_type])
        case _:
            return _reference(resource, "subject") or _reference(resource, "patient")


def _reference(resource: Resource, element: str) -> str | None:
    """The patient that a Reference in this element names."""
    found = resource.get(element)
    reference = found.get("reference") if isinstance(found, Mapping) else None
    return None if reference is None else _id_in(_text(reference), "Patient")


def _first_patient(references: Iterable[Any]) -> str | None:
    for reference in _strings(references):
        if re.search("(^|/)Patient/", reference):
            return _id_in(reference, "Patient")
    return None


def _users(people: Any) -> Iterator[str]:
    for identifier in _elements(_at([people], "identifier")):
        if _USER in _strings(_at([identifier], "system")):
            yield from filter(None, _strings(_at([identifier], "value")))
    for reference in _strings(_at([people], "reference")):
        if (practitioner := _id_in(reference, "Practitioner")) is not None:
            yield practitioner


def _id_in(reference: str, type: str) -> str | None:
    """The id in a literal reference to a resource of this type: the twin of `bonfire.ref_id`."""
    match = re.search(rf"(?:^|/){type}/([^/?#]+)(?:/_history/[^/?#]+)?\Z", reference)
    return None if match is None else match[1]


def _at(values: Iterable[Any], *names: str) -> Iterator[Any]:
    """A lax JSON path's `.name.name`: an array on the way stands for its elements."""
    for name in names:
        values = [value[name] for value in _elements(values) if isinstance(value, Mapping) and name in value]
    return iter(values)


def _elements(values: Iterable[Any]) -> Iterator[Any]:
    """Arrays taken apart, one level of them."""
    for value in values:
        if isinstance(value, list):
            yield from value
        else:
            yield value


def _strings(values: Iterable[Any]) -> list[str]:
    """A lax JSON path's filter for text: it looks into arrays, one level."""
    return [value for value in _elements(values) if isinstance(value, str)]


def _text(value: Any) -> str:
    """What Postgres's `#>>` makes of a JSON value."""
    if isinstance(value, str):
        return value
    return json.dumps(_ordered(value), ensure_ascii=False)


def _ordered(value: Any) -> Any:
    """With the keys of objects in jsonb's order: the shorter first."""
    match value:
        case Mapping():
            keys = sorted(value, key=lambda key: (len(key.encode()), key.encode()))
            return {key: _ordered(value[key]) for key in keys}
        case list():
            return [_ordered(element) for element in value]
        case _:
            return value
