"""FHIR references and codings, as our functions write them."""

from bonfire.access.principal import Principal
from bonfire_protocol.values import Json

LOINC = "http://loinc.org"
SNOMED = "http://snomed.info/sct"
RXNORM = "http://www.nlm.nih.gov/research/umls/rxnorm"
UCUM = "http://unitsofmeasure.org"
USER_SYSTEM = "urn:bonfire:user"


def patient_reference(patient_id: str) -> Json:
    return {"reference": f"Patient/{patient_id}"}


def encounter_reference(encounter_id: str) -> Json:
    return {"reference": f"Encounter/{encounter_id}"}


def person_reference(user: str, name: str) -> Json:
    """A clinician by the id that signs them in: true whether or not a Practitioner resource of theirs is kept here."""
    return {"type": "Practitioner", "identifier": {"system": USER_SYSTEM, "value": user}, "display": name}


def caller_reference(principal: Principal) -> Json:
    """Who is writing."""
    return person_reference(principal.user, principal.name)


def concept(system: str, code: str, display: str, *, text: str | None = None) -> Json:
    """A CodeableConcept of one coding; `text` is what people read, where it is not the display."""
    return {"coding": [{"system": system, "code": code, "display": display}], "text": text or display}


def id_in(reference: Json | None, resource_type: str) -> str | None:
    """The id that a relative or absolute reference to a resource of this type names; None where it names none."""
    text = reference.get("reference") if reference else None
    if not isinstance(text, str):
        return None
    parts = text.split("/_history/")[0].rsplit("/", 2)
    return parts[-1] if len(parts) >= 2 and parts[-2] == resource_type else None
