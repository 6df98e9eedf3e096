"""What a call reads: told by how a key's columns are made and by what is declared, never by what it is called."""

from typing import Any

import msgspec
import pytest

from bonfire.access.facts import Facts, Relation
from bonfire.access.gate import Gate
from bonfire.access.policies import PolicyBook
from bonfire.access.principal import Principal
from bonfire.clinical import Depends, QueryContext, ReadModel, Registry, Source
from bonfire.clinical.builtin import builtin_registry
from bonfire.clinical.planning import Scope, scope
from bonfire_protocol.faults import Fault, FaultCode

GATE = Gate(PolicyBook())
NIA = Principal("north", "nia", "Nia", frozenset({"nurse"}))


def scope_of(registry: Registry, name: str, **args: Any) -> Scope:
    query = registry.find_query(name)
    text = msgspec.json.encode(args)
    return scope(query.resolve(text, NIA))


@pytest.mark.parametrize(
    ("name", "args", "patient", "types"),
    [
        ("notes.listByPatient", {"patientId": "p1"}, "p1", {"DocumentReference"}),
        ("scores.history", {"patientId": "p1", "code": "phq-9"}, "p1", {"Observation"}),
        ("drafts.listByPatient", {"patientId": "p1"}, "p1", {"AppState"}),
        ("patients.get", {"patientId": "p1"}, "p1", {"Patient"}),
        ("patients.list", {}, None, {"Patient"}),
        ("patients.search", {"text": "a"}, None, {"Patient"}),
        ("appState.list", {"collection": "ui"}, None, {"AppState"}),
        ("appState.list", {"collection": "ui", "patientId": "p1"}, "p1", {"AppState"}),
        ("access.onChart", {"patientId": "p1"}, "p1", {"Patient"}),
        ("access.mine", {}, None, set()),
    ],
)
def test_what_the_built_in_queries_read(name: str, args: dict[str, Any], patient: str | None, types: set[str]) -> None:
    found = scope_of(builtin_registry(), name, **args)
    assert (found.patient, set(found.types)) == (patient, types)


def test_of_a_key_all_facets_are_known_that_its_columns_are_made_of() -> None:
    registry = builtin_registry()
    assert scope_of(registry, "notes.listByPatient", patientId="p1").known == (
        frozenset({"type:DocumentReference", "patient:p1"}),
    )
    assert scope_of(registry, "drafts.listByPatient", patientId="p1").known == (
        frozenset({"type:AppState", "category:drafts", "patient:p1", "author:nia"}),
    )
    timeline = scope_of(registry, "timeline.list", patientId="p1")
    assert all("patient:p1" in facets for facets in timeline.known)
    assert {"type:Encounter", "patient:p1"} in timeline.known


def test_a_column_that_is_called_so_proves_nothing() -> None:
    model = ReadModel(
        name="tasks",
        columns={"patientId": "text"},
        sources=(Source("Task", select={"patientId": "r.resource ->> 'description'"}),),
        key=("patientId",),
    )
    registry = Registry()
    registry.live("tasks.list", model)
    assert scope_of(registry, "tasks.list", patientId="p1") == Scope(None, (frozenset({"type:Task"}),))


def test_a_query_of_two_patients_is_about_neither() -> None:
    registry = Registry()

    @registry.query("pairs.get", depends=[Depends("Task", patient="one"), Depends("Task", patient="other")])
    async def get(ctx: QueryContext, one: str, other: str) -> list[str]:
        return []

    assert scope_of(registry, "pairs.get", one="p1", other="p2").patient is None
    assert scope_of(registry, "pairs.get", one="p1", other="p1").patient == "p1"


def test_who_sees_nothing_of_it_is_refused_and_others_are_given_what_they_see() -> None:
    notes = scope_of(builtin_registry(), "notes.listByPatient", patientId="p1")
    on_team = GATE.access(NIA, Facts((Relation("careTeam", "p1"), Relation("careTeam", "p2"))))
    reach = notes.reach(on_team)
    assert reach.fits({"type:DocumentReference", "patient:p1", "label:", "draft:false"})
    assert not reach.fits({"type:DocumentReference", "patient:p2", "label:", "draft:false"})
    with pytest.raises(Fault) as refused:
        notes.reach(GATE.access(NIA, Facts((Relation("careTeam", "p2"),))))
    assert refused.value.code is FaultCode.forbidden
    assert "p1" not in str(refused.value)


def test_what_is_for_administrators_is_for_nobody_else() -> None:
    policies = scope_of(builtin_registry(), "access.policies")
    policies.reach(GATE.access(Principal("north", "root", "Root", frozenset({"administrator"})), Facts()))
    with pytest.raises(Fault) as refused:
        policies.reach(GATE.access(NIA, Facts()))
    assert refused.value.code is FaultCode.forbidden
