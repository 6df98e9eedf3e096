"""The trail in FHIR's words: a recorded event as an R4 AuditEvent, by the patterns of IHE's Basic Audit (BALP).

Pure. What BALP asks for and we do not write: the query string itself (`entity.query`), because it may hold what a
patient is looked for by; in its place stand the parameters' names. And the token's own id, which is a secret's shadow.
"""

from base64 import b64encode
from datetime import UTC, datetime
from typing import Any, Final

from bonfire.store.audit import Event, Recorded

_TYPES: Final = "http://terminology.hl7.org/CodeSystem/audit-event-type"
_RESTFUL: Final = "http://hl7.org/fhir/restful-interaction"
_OWN: Final = "urn:bonfire:audit"
_DICOM: Final = "http://dicom.nema.org/resources/ontology/DCM"

# FHIR's own interactions; everything else is named in a system of our own.
_INTERACTIONS: Final = {
    "read": "read",
    "vread": "vread",
    "history": "history-instance",
    "search": "search-type",
    "create": "create",
    "update": "update",
    "delete": "delete",
}

_EVENTS: Final = {
    "login": ("110114", "User Authentication"),
    "logout": ("110114", "User Authentication"),
    "export": ("110106", "Export"),
    "import": ("110107", "Import"),
    "breakGlass": ("110113", "Security Alert"),
    "policy": ("110137", "User Security Attributes Changed"),
    "relation": ("110136", "Security Roles Changed"),
}
"""DICOM's types for what is no REST interaction."""

# The agent's role and type: who asks is at the source of what goes out, and at the destination of what comes in.
_KINDS: Final = {"person": ("humanuser", "human user"), "service": ("dataprocessor", "data processor")}


def audit_event(recorded: Recorded, *, site: str = "bonfire") -> dict[str, Any]:
    """The AuditEvent. `site` names the server that observed it."""
    event = recorded.event
    resource: dict[str, Any] = {
        "resourceType": "AuditEvent",
        "id": str(event.id),
        "type": _type(event),
        "subtype": [_subtype(event)],
        "action": event.action,
        "recorded": _instant(recorded.at),
        "outcome": str(event.outcome),
        "agent": _agents(event),
        "source": {
            "site": site,
            "observer": {"display": site},
            "type": [_coding("http://terminology.hl7.org/CodeSystem/security-source-type", "4", "Application Server")],
        },
    }
    if event.since is not None:
        resource["period"] = {"start": _instant(event.since), "end": _instant(recorded.at)}
    if event.reason:
        resource["outcomeDesc"] = event.reason
    if event.purpose:
        resource["purposeOfEvent"] = [_purpose(event.purpose)]
    if entities := _entities(event):
        resource["entity"] = entities
    return resource


def _type(event: Event) -> dict[str, str]:
    if event.subtype in _EVENTS:
        return _coding(_DICOM, *_EVENTS[event.subtype])
    return _coding(_TYPES, "rest", "Restful Operation")


def _subtype(event: Event) -> dict[str, str]:
    interaction = _INTERACTIONS.get(event.subtype)
    return _coding(_OWN, event.subtype) if interaction is None else _coding(_RESTFUL, interaction)


def _agents(event: Event) -> list[dict[str, Any]]:
    agent: dict[str, Any] = {"requestor": True}
    kind = _KINDS.get(event.kind or "")
    if kind is not None:
        system = "http://terminology.hl7.org/CodeSystem/extra-security-role-type"
        agent["type"] = {"coding": [_coding(system, *kind)]}
    elif event.kind is not None:
        agent["type"] = {"coding": [_coding(_OWN, event.kind)]}
    if event.roles:
        agent["role"] = [{"text": role} for role in event.roles]
    agent["who"] = {"display": "nobody who is known"} if event.user is None else _user(event.user, event.name)
    if event.policies:
        agent["policy"] = [f"urn:bonfire:policy:{policy}" for policy in event.policies]
    if event.address:
        agent["network"] = {"address": event.address, "type": "2"}
    if event.purpose:
        agent["purposeOfUse"] = [_purpose(event.purpose)]
    agents = [agent]
    if event.behalf_of is not None:
        role = _coding("http://terminology.hl7.org/CodeSystem/v3-ParticipationType", "RESP", "responsible party")
        agents.append({"type": {"coding": [role]}, "who": _user(event.behalf_of, None), "requestor": False})
    return agents


def _entities(event: Event) -> list[dict[str, Any]]:
    entities: list[dict[str, Any]] = []
    if event.patient is not None:
        entities.append(_entity("1", "Person", "1", "Patient") | {"what": {"reference": f"Patient/{event.patient}"}})
    if event.what is not None and event.what != f"Patient/{event.patient}":
        entity = _entity("2", "System Object", "4", "Domain Resource")
        is_reference = "/" in event.what
        entities.append(entity | ({"what": {"reference": event.what}} if is_reference else {"name": event.what}))
    if event.query is not None:
        query = b64encode(event.query.encode()).decode()
        entities.append(_entity("2", "System Object", "24", "Query") | {"query": query})
    details = dict(event.detail)
    if event.count is not None:
        details["count"] = event.count
    if event.request is not None:
        entity = _entity("4", "Other", "21", "Job Stream")
        entities.append(entity | {"what": {"identifier": {"system": "urn:bonfire:request", "value": event.request}}})
    if details:
        spelled = [{"type": name, "valueString": str(value)} for name, value in sorted(details.items())]
        if not entities:
            entities.append({**_entity("4", "Other", "21", "Job Stream"), "name": event.subtype})
        entities[-1]["detail"] = spelled
    return entities


def _entity(type: str, type_name: str, role: str, role_name: str) -> dict[str, Any]:
    return {
        "type": _coding("http://terminology.hl7.org/CodeSystem/audit-entity-type", type, type_name),
        "role": _coding("http://terminology.hl7.org/CodeSystem/object-role", role, role_name),
    }


def _user(user: str, name: str | None) -> dict[str, Any]:
    who: dict[str, Any] = {"identifier": {"system": "urn:bonfire:user", "value": user}}
    return who | {"display": name} if name else who


def _purpose(code: str) -> dict[str, Any]:
    return {"coding": [_coding("http://terminology.hl7.org/CodeSystem/v3-ActReason", code)]}


def _coding(system: str, code: str, display: str | None = None) -> dict[str, str]:
    coding = {"system": system, "code": code}
    return coding if display is None else coding | {"display": display}


def _instant(at: datetime) -> str:
    return at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
