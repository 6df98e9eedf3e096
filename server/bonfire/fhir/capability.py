"""What this server can do, as a CapabilityStatement: just what is there."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from bonfire.clinical.times import instant
from bonfire.fhir.definitions.structure import Structure, resource_structures

_INTERACTIONS = ("create", "read", "vread", "update", "delete", "history-instance", "search-type")
_ID = {"name": "_id", "type": "token", "definition": "http://hl7.org/fhir/SearchParameter/Resource-id"}


def capability_statement(base: str, *, since: datetime, version: str) -> dict[str, Any]:
    """The CapabilityStatement of the server at `base`. `since` is when it began to be true; `version` is bonfire's."""
    return {
        "resourceType": "CapabilityStatement",
        "status": "active",
        "date": instant(since),
        "kind": "instance",
        "software": {"name": "bonfire", "version": version},
        "implementation": {"description": "bonfire, a clinical data layer", "url": base},
        "fhirVersion": "4.0.1",
        "format": ["application/fhir+json", "json"],
        "rest": [
            {
                "mode": "server",
                "documentation": (
                    "Searches take _id and identifier. Resources are checked against the structure of R4, not "
                    "against invariants, terminology or profiles."
                ),
                "resource": [_resource(name, structure) for name, structure in sorted(resource_structures().items())],
                "interaction": [{"code": "transaction"}, {"code": "batch"}],
            }
        ],
    }


def _resource(name: str, structure: Structure) -> dict[str, Any]:
    return {
        "type": name,
        "interaction": [{"code": code} for code in _INTERACTIONS],
        "versioning": "versioned-update",
        "readHistory": True,
        "updateCreate": True,
        "conditionalCreate": True,
        "conditionalRead": "full-support",
        "conditionalUpdate": False,
        "conditionalDelete": "not-supported",
        "referencePolicy": ["literal", "logical", "local"],
        "searchParam": _search_parameters(name, structure),
    }


def _search_parameters(name: str, structure: Structure) -> Sequence[dict[str, str]]:
    if "identifier" not in structure.properties:
        return [_ID]
    return [_ID, {"name": "identifier", "type": "token", "documentation": f"{name}.identifier, as system|value"}]
