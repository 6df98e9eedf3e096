"""Where each version of a clinical record came from: FHIR R4 Provenance, written in the transaction that wrote it.

One Provenance says what one mutation, or one FHIR request, did to one patient's records: which versions it made, who
did it, on whose behalf, from what. What an agent has drafted names the agent as assembler and the person who answers
for it. A signature is a record of the act (who, when, and that they signed), bound to the version that was signed; it
is not a cryptographic one. Whose records they are is said by R5's `Provenance.patient`, as R4 lets it: so it is seen by
those who may see that patient's, and by nobody else.
"""

from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from pathlib import Path

import asyncpg
import msgspec

from bonfire.access.acts import Act, Done
from bonfire.access.principal import Principal
from bonfire.store.statements import read_statements
from bonfire_protocol.values import Json

PATIENT_EXTENSION = "http://hl7.org/fhir/5.0/StructureDefinition/extension-Provenance.patient"
USER_SYSTEM = "urn:bonfire:user"

_PARTICIPANT = "http://terminology.hl7.org/CodeSystem/provenance-participant-type"
_OPERATION = "http://terminology.hl7.org/CodeSystem/v3-DataOperation"
_PURPOSE = "http://terminology.hl7.org/CodeSystem/v3-ActReason"
_AUTHORS_SIGNATURE: Json = {
    "system": "urn:iso-astm:E1762-95:2013",
    "code": "1.2.840.10065.1.12.1.1",
    "display": "Author's Signature",
}
_ACTIVITIES: dict[Done, Json] = {
    "create": {"system": _OPERATION, "code": "CREATE", "display": "create"},
    "update": {"system": _OPERATION, "code": "UPDATE", "display": "revise"},
    "delete": {"system": _OPERATION, "code": "DELETE", "display": "delete"},
}

_STATEMENTS = read_statements("provenance", Path(__file__).with_name("sql"))
_encoder = msgspec.json.Encoder(decimal_format="number")


def provenances(principal: Principal, acts: Iterable[Act], now: datetime, activity: str) -> list[Json]:
    """The resources for what was done together at `now`: one for each patient whose records were written, and one for
    those that are nobody's; those with other security labels apart, so that who may not see them does not learn of
    them. `activity` says in words what was done: a mutation's name."""
    groups: dict[tuple[str | None, frozenset[tuple[str, str]]], list[Act]] = {}
    for act in acts:
        if act.decided.resource_type != "Provenance":
            labels = frozenset((str(label.get("system")), str(label.get("code"))) for label in act.decided.labels)
            groups.setdefault((act.decided.patient, labels), []).append(act)
    return [_provenance(principal, patient, group, now, activity) for (patient, _), group in groups.items()]


async def record(conn: asyncpg.Connection, resources: Sequence[Json], new_id: Callable[[], str]) -> None:
    """Writes them, in the transaction of `conn` and one statement."""
    if resources:
        ids = [new_id() for _ in resources]
        await conn.execute(_STATEMENTS["record"], ids, [_encoder.encode(each).decode() for each in resources])


def _provenance(principal: Principal, patient: str | None, acts: Sequence[Act], now: datetime, activity: str) -> Json:
    at = now.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    resource: Json = {
        "resourceType": "Provenance",
        "target": [{"reference": act.reference} for act in acts],
        "recorded": at,
        "activity": {"coding": [_activity(acts)], "text": activity},
        "reason": [{"coding": [{"system": _PURPOSE, "code": principal.purpose}]}],
        "agent": _agents(principal),
    }
    if patient is not None:
        resource["extension"] = [{"url": PATIENT_EXTENSION, "valueReference": {"reference": f"Patient/{patient}"}}]
    # The same for all of them.
    if acts[0].decided.labels:
        resource["meta"] = {"security": list(acts[0].decided.labels)}
    entities = [*_sources(acts), *_revised(acts)]
    if entities:
        resource["entity"] = entities
    if any(act.decided.signs for act in acts):
        resource["signature"] = [
            {
                "type": [_AUTHORS_SIGNATURE],
                "when": at,
                "who": _who(principal),
                "targetFormat": "application/fhir+json",
            }
        ]
    return resource


def _activity(acts: Sequence[Act]) -> Json:
    done = {act.decided.done for act in acts}
    # What does several things at once revises the record.
    return _ACTIVITIES[done.pop() if len(done) == 1 else "update"]


def _agents(principal: Principal) -> list[Json]:
    behalf = None if principal.behalf_of is None else _person(principal.behalf_of, None)
    if principal.kind == "person":
        agent: Json = {"type": _participant("author", "Author"), "who": _who(principal)}
        return [agent if behalf is None else {**agent, "onBehalfOf": behalf}]
    assembler: Json = {"type": _participant("assembler", "Assembler"), "who": _who(principal)}
    if behalf is None:
        return [assembler]
    return [
        {**assembler, "onBehalfOf": behalf},
        # The person who answers for what the machine has put together.
        {"type": _participant("author", "Author"), "who": behalf},
    ]


def _who(principal: Principal) -> Json:
    if principal.kind != "person":
        return {
            "type": "Device",
            "identifier": {"system": USER_SYSTEM, "value": principal.user},
            "display": principal.name,
        }
    if principal.patient is not None:
        return {"reference": f"Patient/{principal.patient}", "type": "Patient", "display": principal.name}
    return _person(principal.user, principal.name)


def _person(user: str, name: str | None) -> Json:
    person: Json = {"type": "Practitioner", "identifier": {"system": USER_SYSTEM, "value": user}}
    return person if name is None else {**person, "display": name}


def _participant(code: str, display: str) -> Json:
    return {"coding": [{"system": _PARTICIPANT, "code": code, "display": display}]}


def _sources(acts: Sequence[Act]) -> list[Json]:
    references = dict.fromkeys(reference for act in acts for reference in act.derived_from)
    return [{"role": "source", "what": {"reference": reference}} for reference in references]


def _revised(acts: Sequence[Act]) -> list[Json]:
    # R4's roles: what a new version revises, and what a deletion removes.
    return [
        {
            "role": "removal" if act.decided.done == "delete" else "revision",
            "what": {"reference": f"{act.decided.resource_type}/{act.decided.id}/_history/{act.before}"},
        }
        for act in acts
        if act.before is not None
    ]
