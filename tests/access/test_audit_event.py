"""The trail in FHIR's words: each kind of event is a valid R4 AuditEvent, by BALP's patterns."""

from base64 import b64decode
from datetime import UTC, datetime, timedelta
from typing import Any, get_args

import pytest

from bonfire.access.audit import Outcome, Subtype, event_of
from bonfire.access.audit_event import audit_event
from bonfire.access.principal import Kind, Principal
from bonfire.fhir.validate import check
from bonfire.store.audit import Event, Recorded

AT = datetime(2026, 3, 2, 9, 15, 0, 250, tzinfo=UTC)
AMARA = Principal("north", "amara", "Dr. Amara Okafor", roles=frozenset({"clinician"}))


def spelled(event: Event) -> dict[str, Any]:
    resource = audit_event(Recorded(event, AT, 7))
    assert check(resource, "AuditEvent") == []
    return resource


def everything(subtype: Subtype, kind: Kind = "person", outcome: Outcome = 0) -> Event:
    principal = Principal("north", "amara", "Dr. Amara Okafor", roles=frozenset({"b", "a"}), kind=kind, behalf_of="ben")
    return event_of(
        principal,
        subtype,
        "socket",
        patient="p1",
        what="Observation/o1/_history/3",
        query="Observation?code&date",
        policies=["clinician-reads"],
        outcome=outcome,
        reason="she is unconscious",
        address="192.0.2.7",
        request="c1",
        count=3,
        since=AT - timedelta(minutes=5),
        detail={"masked": True},
    )


@pytest.mark.parametrize("subtype", get_args(Subtype))
def test_each_kind_is_valid_bare_and_full(subtype: Subtype) -> None:
    spelled(event_of(AMARA, subtype, "http"))
    spelled(everything(subtype))
    spelled(Event(tenant="north", action="E", subtype=subtype, surface="worker"))
    spelled(Event(tenant="north", action="E", subtype=subtype, surface="worker", count=3))


@pytest.mark.parametrize("kind", get_args(Kind))
def test_each_kind_of_caller_is_valid(kind: Kind) -> None:
    spelled(everything("read", kind))


def test_a_read_is_as_balp_has_it() -> None:
    resource = spelled(event_of(AMARA, "read", "http", patient="p1", what="Observation/o1", policies=["care-team"]))
    assert (resource["type"]["code"], resource["action"], resource["outcome"]) == ("rest", "R", "0")
    [subtype] = resource["subtype"]
    assert (subtype["system"], subtype["code"]) == ("http://hl7.org/fhir/restful-interaction", "read")
    assert resource["recorded"] == "2026-03-02T09:15:00.000250Z"
    [agent] = resource["agent"]
    assert agent["requestor"] is True
    assert agent["who"] == {
        "identifier": {"system": "urn:bonfire:user", "value": "amara"},
        "display": "Dr. Amara Okafor",
    }
    assert agent["policy"] == ["urn:bonfire:policy:care-team"]
    assert agent["purposeOfUse"][0]["coding"][0]["code"] == "TREAT"
    patient, data = resource["entity"]
    assert (patient["what"]["reference"], patient["type"]["code"], patient["role"]["code"]) == ("Patient/p1", "1", "1")
    assert (data["what"]["reference"], data["type"]["code"], data["role"]["code"]) == ("Observation/o1", "2", "4")


def test_the_patient_is_named_once() -> None:
    resource = spelled(event_of(AMARA, "read", "http", patient="p1", what="Patient/p1"))
    assert len(resource["entity"]) == 1


def test_a_search_names_its_parameters() -> None:
    resource = spelled(event_of(AMARA, "search", "http", query="Observation?code&date", count=12))
    [entity] = resource["entity"]
    assert (resource["subtype"][0]["code"], resource["action"], entity["role"]["code"]) == ("search-type", "E", "24")
    assert b64decode(entity["query"]) == b"Observation?code&date"
    # R4: entity.query and entity.name exclude each other.
    assert "name" not in entity
    assert entity["detail"] == [{"type": "count", "valueString": "12"}]


def test_all_that_was_said_is_there() -> None:
    resource = spelled(everything("push", outcome=4))
    assert (resource["outcome"], resource["outcomeDesc"]) == ("4", "she is unconscious")
    assert resource["period"] == {"start": "2026-03-02T09:10:00.000250Z", "end": "2026-03-02T09:15:00.000250Z"}
    asking, responsible = resource["agent"]
    assert asking["network"] == {"address": "192.0.2.7", "type": "2"}
    assert [role["text"] for role in asking["role"]] == ["a", "b"]
    assert (responsible["who"]["identifier"]["value"], responsible["requestor"]) == ("ben", False)
    assert resource["source"]["observer"] == {"display": "bonfire"}
