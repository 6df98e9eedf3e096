"""Records without what tells who somebody is, for those whom a policy lets see the rest (`@mask("identity")`).

A text stays only where it can't be a name or prose: codes and what they are called, units, times, references by id.
Whatever else is text goes, and so do identifiers, addresses and pictures, and days of birth and death but for the year;
numbers and measurements stay. A resource so masked says so of itself, as R4's security labels have it, so that nobody
takes it for the whole and writes it back.
"""

import re
from typing import Any

from bonfire_protocol.values import Json

IDENTITY = "identity"

_OBSERVATION_VALUE = "http://terminology.hl7.org/CodeSystem/v3-ObservationValue"
_REDACTED: Json = {"system": _OBSERVATION_VALUE, "code": "REDACTED", "display": "redacted"}
_SUBSETTED: Json = {"system": _OBSERVATION_VALUE, "code": "SUBSETTED", "display": "subsetted"}

# Elements that R4 has for who somebody is or how they are reached, numbers in them included.
_IDENTIFYING = frozenset(
    {
        "address",
        "alias",
        "contact",
        "identifier",
        "link",
        "name",
        "photo",
        "position",
        "telecom",
        "valueAddress",
        "valueContactPoint",
        "valueHumanName",
        "valueIdentifier",
        "valueAttachment",
    }
)

# Elements whose text is of R4's type `code`, an id, or a URI that names a kind of thing.
_SPELLED = frozenset(
    {
        "id",
        "resourceType",
        "versionId",
        "profile",
        "system",
        "code",
        "unit",
        "comparator",
        "currency",
        "language",
        "status",
        "docStatus",
        "lifecycleStatus",
        "use",
        "type",
        "kind",
        "mode",
        "intent",
        "priority",
        "category",
        "criticality",
        "severity",
        "outcome",
        "gender",
        "eye",
        "dayOfWeek",
        "daysOfWeek",
        "durationUnit",
        "periodUnit",
        "when",
        "relationship",
        "contentType",
        "valueCode",
    }
)

_DAYS = frozenset({"birthDate", "deceasedDate", "deceasedDateTime", "bornDate", "valueDate"})
_MOMENT = re.compile(r"\d{4}(-\d\d(-\d\d(T\d\d:\d\d(:\d\d(\.\d+)?)?(Z|[+-]\d\d:\d\d)?)?)?)?|\d\d:\d\d:\d\d(\.\d+)?")
_REFERENCE = re.compile(r"#?|[A-Z][A-Za-z]+/[A-Za-z0-9.-]{1,64}(/_history/[A-Za-z0-9.-]{1,64})?")


def mask(name: str, resource: Json) -> Json:
    """A resource as a policy's mask leaves it; a new dict. ValueError for a mask that is none."""
    if name != IDENTITY:
        raise ValueError(f"there is no mask `{name}`: the one there is is `{IDENTITY}`")
    masked: Json = _object(resource)
    meta: Json = masked.get("meta", {})
    return {
        **masked,
        "meta": {
            **meta,
            "security": [*meta.get("security", ()), _REDACTED],
            "tag": [*meta.get("tag", ()), _SUBSETTED],
        },
    }


def _object(value: Json) -> Json:
    left: Json = {}
    for key, child in value.items():
        element = key.removeprefix("_")
        # What stands beside a day (`_birthDate`) may be its hour.
        if element in _IDENTIFYING or (element != key and element in _DAYS):
            continue
        kept = _masked(element, child, value)
        # FHIR has no empty values: what nothing is left of goes with its name.
        if kept is not None and kept != {} and kept != []:
            left[key] = kept
    # An extension of which only the name is left says nothing.
    return {} if left.keys() == {"url"} else left


def _masked(element: str, value: Any, owner: Json) -> Any:
    match value:
        case dict():
            return _object(value)
        case list():
            kept = [_masked(element, item, owner) for item in value]
            return [item for item in kept if item is not None and item != {}]
        case str():
            return _text(element, value, owner)
        case _:
            return value


def _text(element: str, text: str, owner: Json) -> str | None:
    if element in _DAYS:
        return text[:4] if _MOMENT.fullmatch(text) else None
    if _MOMENT.fullmatch(text) or element in _SPELLED:
        return text
    match element:
        case "reference":
            return text if _REFERENCE.fullmatch(text) else None
        case "display":
            # A coding's is the terminology's word; a reference's is a person's name as likely as not.
            return text if "code" in owner else None
        case "url":
            # An extension's says what it is; an attachment's leads to what is masked.
            return text if any(name.startswith(("value", "extension")) for name in owner) else None
        case _:
            return None
