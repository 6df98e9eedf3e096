"""The description: what a client's types are made from."""

from decimal import Decimal
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from bonfire.clinical import Depends, MutationContext, QueryContext, ReadModel, Registry, Source, Subject, Value
from bonfire.clinical.describe import describe

TASKS = ReadModel(
    name="tasksByOwner",
    columns={"owner": "text", "due": "date", "at": "timestamptz", "share": "numeric", "data": "jsonb"},
    sources=(Source("AppState/tasks", {"owner": "r.owner"}),),
    key=("owner",),
    description="Tasks by owner.",
)


class Item(Value, frozen=True):
    """An item
    of two lines."""

    id: str
    item_share: Decimal


def described() -> Any:
    registry = Registry()
    registry.live("tasks.list", TASKS, limit=7)

    @registry.query("tasks.items", depends=[Depends("Task")])
    async def items(ctx: QueryContext, format: Annotated[str, Meta(description="how")] = "decimal") -> list[Item]:
        """Lists items."""
        return []

    @registry.mutation("tasks.do", subject=Subject("Task", "task_id"))
    async def do(ctx: MutationContext, task_id: str) -> Item | None:
        return None

    return msgspec.to_builtins(describe(registry))


def test_functions_are_sorted_and_say_what_they_are() -> None:
    functions = described()["functions"]
    assert [(function["name"], function["kind"], function["shape"]) for function in functions] == [
        ("tasks.do", "mutation", "one"),
        ("tasks.items", "app", "list"),
        ("tasks.list", "keyed", "list"),
    ]
    do, items, listed = functions
    assert (do["subject"], items["doc"], listed["view"], listed["doc"]) == (
        "Task",
        "Lists items.",
        "tasksByOwner",
        "Tasks by owner.",
    )
    assert items["result"] == {"type": "array", "items": {"$ref": "#/$defs/Item"}}
    assert do["result"] == {"anyOf": [{"$ref": "#/$defs/Item"}, {"type": "null"}]}


def test_definitions_are_json_schema_as_the_wire_is() -> None:
    defs = described()["defs"]
    assert defs["Item"]["properties"] == {"id": {"type": "string"}, "itemShare": {"type": "number"}}
    assert defs["Item"]["description"] == "An item\nof two lines."
    assert defs["TasksItemsArgs"]["properties"]["format"] == {
        "description": "how",
        "type": "string",
        "default": "decimal",
    }
    assert defs["TasksListArgs"]["required"] == ["owner"]
    assert defs["TasksListArgs"]["properties"]["limit"]["maximum"] == 7
    assert defs["TasksListArgs"]["additionalProperties"] is False


def test_a_row_may_lack_anything_but_its_id_and_its_key() -> None:
    properties = described()["defs"]["TasksByOwnerRow"]["properties"]
    assert properties["id"] == properties["owner"] == {"type": "string"}
    assert properties["due"] == {"anyOf": [{"type": "string", "format": "date"}, {"type": "null"}]}
    assert properties["share"]["anyOf"][0] == {"type": "number"}
    assert properties["data"]["anyOf"][0] == {}
