"""Declarations: what is wrong with one is said at once, and what is right is found by name."""

import re
from collections.abc import Callable
from typing import Any

import pytest

from bonfire.clinical import Depends, MutationContext, QueryContext, ReadModel, Registry, Source, Subject, Value
from bonfire.clinical.errors import RegistrationError
from bonfire.clinical.queries import AppQuery, KeyedQuery
from bonfire_protocol.faults import Fault, FaultCode

TASKS = ReadModel(
    name="tasks",
    columns={"owner": "text", "title": "text"},
    sources=(Source("AppState/tasks", {"owner": "r.owner", "title": "r.data ->> 'title'"}),),
    key=("owner",),
    description="Tasks by owner.",
)


class Row(Value, frozen=True):
    id: str
    full_title: str


class Args(Value, frozen=True):
    patient_id: str
    limit: int = 5


async def write(ctx: MutationContext, task_id: str) -> None: ...


async def read(ctx: QueryContext, patient_id: str, collection: str = "tasks") -> list[Row]:
    return []


def sql(text: str, **more: Any) -> Callable[[Registry], None]:
    return lambda registry: registry.sql("tasks.sql", text, **{"row": Row, "depends": [], **more})


@pytest.mark.parametrize(
    ("declare", "message"),
    [
        (lambda r: r.mutation("tasks")(write), "no function's name"),
        (lambda r: r.mutation("tasks.list.all")(write), "no function's name"),
        (lambda r: r.mutation("Tasks.add")(write), "no function's name"),
        (lambda r: (r.mutation("tasks.add")(write), r.mutation("tasks.add")(write)), "a mutation of that name already"),
        (lambda r: (r.live("tasks.add", TASKS), r.mutation("tasks.add")(write)), "a query of that name already"),
        (
            lambda r: r.mutation("tasks.add", subject=Subject("Tsk", "task_id"))(write),
            "subject `Tsk` is no FHIR R4 type",
        ),
        (
            lambda r: r.mutation("tasks.add", subject=Subject("Task", "taskId"))(write),
            "argument `taskId`; the arguments are: task_id",
        ),
        (
            lambda r: r.query("tasks.list", depends=[Depends("Patints")])(read),
            "depends on `Patints`, no FHIR R4 type .* Did you mean Patient",
        ),
        (lambda r: r.query("tasks.list", depends=[Depends("AppState/")])(read), "depends on `AppState/`"),
        (
            lambda r: r.query("tasks.list", depends=[Depends("AppState/{folder}")])(read),
            "argument `folder`; the arguments are: patient_id, collection",
        ),
        (
            lambda r: r.query("tasks.list", depends=[Depends("Patient", patient="patientId")])(read),
            "argument `patientId`",
        ),
        (lambda r: r.query("tasks.list", depends=[], timeout=0)(read), "more than 0 seconds"),
        (lambda r: r.live("tasks.list", TASKS, limit=0), "at least 1"),
        (lambda r: r.live("tasks.list", TASKS, caller="title"), "must name a key column of tasks: owner"),
        (sql("select id, title as full_title from t where x = :who", args=Args), "names `:who`; the arguments are"),
        (sql("select 1", args=Args), "never uses argument `patient_id`"),
        (sql("select $1", args=None), "numbered ones"),
        (sql("select 1; select 2"), "one statement"),
        (sql("select 1", row=dict), "a row of SQL is a struct"),
    ],
)
def test_a_wrong_declaration_is_refused(declare: Callable[[Registry], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        declare(Registry())


def test_a_read_model_stands_for_one_declaration() -> None:
    registry = Registry()
    registry.add(TASKS)
    registry.add(TASKS)
    other = ReadModel("tasks", {"title": "text"}, (Source("AppState/tasks", {"title": "r.id"}),))
    with pytest.raises(RegistrationError, match="another one of that name"):
        registry.add(other)
    assert registry.models == (TASKS,)


def test_including_is_all_or_nothing() -> None:
    registry, other = Registry(), Registry()
    registry.mutation("tasks.add")(write)
    other.mutation("tasks.remove")(write)
    other.mutation("tasks.add")(write)
    other.live("tasks.mine", TASKS)
    with pytest.raises(RegistrationError, match=re.escape("tasks.add: there is a mutation")):
        registry.include(other)
    assert [mutation.name for mutation in registry.mutations] == ["tasks.add"]
    assert (len(registry.models), len(registry.queries)) == (0, 0)
    third = Registry()
    third.include(other)
    assert [query.name for query in third.queries] == ["tasks.mine"]
    assert third.models == (TASKS,)


def test_functions_are_found_by_name_and_near_names_are_offered() -> None:
    registry = Registry()
    registry.mutation("tasks.add")(write)
    registry.query("tasks.listByPatient", depends=[])(read)
    registry.live("tasks.mine", TASKS)
    assert isinstance(registry.find_query("tasks.listByPatient"), AppQuery)
    assert isinstance(registry.find_query("tasks.mine"), KeyedQuery)
    assert registry.find_mutation("tasks.add").function is write
    for find, name, expected in (
        (registry.find_query, "tasks.listByPatiend", "perhaps tasks.listByPatient"),
        (registry.find_query, "tasks.add", "a query's name: `tasks.add` is a mutation"),
        (registry.find_mutation, "tasks.mine", "a mutation's name: `tasks.mine` is a query"),
        (registry.find_mutation, "x" * 500, "the name of a registered mutation"),
    ):
        with pytest.raises(Fault) as refused:
            find(name)
        assert refused.value.code is FaultCode.unknown_function
        assert refused.value.expected == expected
        assert len(refused.value.got or "") <= 128


def test_a_declared_function_stays_what_it_was() -> None:
    registry = Registry()
    assert registry.query("tasks.list", depends=[])(read) is read
