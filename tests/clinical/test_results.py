"""Results: as declared, or not sent."""

from decimal import Decimal
from typing import Annotated, Any

import pytest
from msgspec import Meta, Struct

from bonfire.clinical.arguments import Value
from bonfire.clinical.errors import RegistrationError
from bonfire.clinical.results import rows_of
from bonfire_protocol.faults import Fault, FaultCode


class Task(Value, frozen=True):
    id: str
    done_share: Decimal


class Unnamed(Value, frozen=True):
    title: str


class Numbered(Value, frozen=True):
    id: int


def test_a_list_is_sent_by_rows_and_keeps_the_spelling_of_numbers() -> None:
    rows = rows_of("tasks.list", list[Task])
    assert (rows.shape, rows.identity) == ("list", "id")
    assert rows.encode([Task("t1", Decimal("0.50"))]) == [b'{"id":"t1","doneShare":0.50}']


def test_one_value_is_one_row_and_nothing_is_null() -> None:
    rows = rows_of("tasks.get", Task | None)
    assert (rows.shape, rows.identity) == ("one", None)
    assert rows.encode(None) == [b"null"]


@pytest.mark.parametrize(("row", "identity"), [(Unnamed, None), (Numbered, None), (dict[str, Any], None), (Task, "id")])
def test_only_an_id_of_text_tells_rows_apart(row: Any, identity: str | None) -> None:
    assert rows_of("tasks.list", list[row]).identity == identity


def test_an_annotated_id_is_text_too() -> None:
    class Short(Struct):
        id: Annotated[str, Meta(max_length=5)]

    assert rows_of("tasks.list", list[Short]).identity == "id"


@pytest.mark.parametrize(
    ("declared", "value", "problem"),
    [
        (list[Task], Task("t1", Decimal(1)), "Expected a list, got Task"),
        (list[Task], [{"id": "t1"}], "doneShare"),
        (Task, {"id": 7, "doneShare": 1}, r"\$.id"),
        (Task, object(), "TypeError"),
        (int, "SECRET", "Expected int, got str"),
    ],
)
def test_what_was_not_declared_is_refused_by_place_and_kind(declared: Any, value: Any, problem: str) -> None:
    with pytest.raises(Fault, match=problem) as refused:
        rows_of("tasks.list", declared).encode(value)
    assert refused.value.code is FaultCode.internal
    assert "SECRET" not in str(refused.value)


def test_a_type_that_json_can_not_carry_is_refused_at_once() -> None:
    with pytest.raises(RegistrationError, match=r"tasks\.list"):
        rows_of("tasks.list", list[complex])
