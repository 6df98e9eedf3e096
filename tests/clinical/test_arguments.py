"""From a signature to a struct, and from a client's JSON to its refusal."""

from datetime import date
from decimal import Decimal
from typing import Annotated, Any, Literal

import msgspec
import pytest
from msgspec import Meta, Struct

from bonfire.clinical.arguments import Value, canonical, decode, signature_of
from bonfire.clinical.errors import RegistrationError
from bonfire_protocol.faults import Fault, FaultCode


class Item(Value, frozen=True):
    item_name: str
    share: Decimal = Decimal("0.50")


async def function(
    ctx: object,
    patient_id: str,
    kind: Literal["progress", "consult"] = "progress",
    items: list[Item] = [],  # noqa: B006  # a field's default, copied by msgspec
    text: Annotated[str, Meta(min_length=1, max_length=5)] = "note",
    since: date | None = None,
) -> None: ...


ARGUMENTS, RESULT = signature_of("notes.search", function)
DECODER: msgspec.json.Decoder[Any] = msgspec.json.Decoder(ARGUMENTS)


def refusal(args: bytes) -> Fault:
    with pytest.raises(Fault) as refused:
        decode(DECODER, args)
    assert refused.value.code is FaultCode.bad_arguments
    return refused.value


def test_parameters_become_camel_case_fields_with_their_defaults() -> None:
    arguments: Any = decode(DECODER, b'{"patientId": "p1", "since": "2026-01-31"}')
    assert (arguments.patient_id, arguments.kind, arguments.items, arguments.since) == (
        "p1",
        "progress",
        [],
        date(2026, 1, 31),
    )
    assert ARGUMENTS.__name__ == "NotesSearchArgs"
    assert RESULT is type(None)


def test_equal_calls_have_one_spelling() -> None:
    short = decode(DECODER, b'{"patientId":"p1"}')
    long = decode(DECODER, b' {"items":[], "kind":"progress", "text":"note", "since":null, "patientId":"p1"} ')
    assert canonical(short) == canonical(long)
    assert canonical(short) != canonical(decode(DECODER, b'{"patientId":"p2"}'))


@pytest.mark.parametrize(
    ("args", "field", "expected", "got"),
    [
        (b"{}", "patientId", "a value", "nothing"),
        (b'{"patientId": 7}', "patientId", "str", "int"),
        (b'{"patientId": "p1", "items": [{"itemName": "a"}, {}]}', "items[1].itemName", "a value", "nothing"),
        (b'{"patientId": "p1", "text": ""}', "text", "str of length >= 1", "something else"),
        (b'{"patientId": "p1", "kind": "secret"}', "kind", "one of consult, progress", "another value"),
        (b"[]", None, "object", "array"),
        (b"{", None, "arguments as a JSON object", "something else"),
        (b'{"patientId": "\xff"}', None, "JSON text in UTF-8", "other bytes"),
    ],
)
def test_a_refusal_names_the_field_what_was_expected_and_what_came(
    args: bytes, field: str | None, expected: str, got: str
) -> None:
    fault = refusal(args)
    assert (fault.field, fault.expected, fault.got) == (field, expected, got)


def test_an_unknown_field_is_refused_with_those_that_there_are() -> None:
    fault = refusal(b'{"patientId": "p1", "paitentId": "p2"}')
    assert fault.field == "paitentId"
    assert fault.expected == "patientId, kind, items, text, since"


def test_a_refusal_holds_no_value() -> None:
    for args in (b'{"patientId": "p1", "kind": "SECRET"}', b'{"patientId": "p1", "since": "SECRET"}'):
        fault = refusal(args)
        assert "SECRET" not in f"{fault} {fault.field} {fault.expected} {fault.got}"


def test_a_time_of_the_wrong_form_is_refused_with_the_form() -> None:
    fault = refusal(b'{"patientId": "p1", "since": "soon"}')
    assert (fault.field, fault.got) == ("since", "other text")
    assert fault.expected is not None
    assert fault.expected.startswith("a valid RFC3339 encoded date")


def test_a_nul_character_is_refused_and_an_escaped_backslash_is_not() -> None:
    fault = refusal(rb'{"kind": "x", "text": "a\u0000b"}')
    assert "U+0000" in str(fault)
    assert fault.field == "text"
    arguments: Any = decode(DECODER, rb'{"patientId": "a\\u0000b"}')
    assert arguments.patient_id == r"a\u0000b"


def test_a_signature_that_can_not_be_served_is_refused() -> None:
    async def untyped(ctx, text):  # type: ignore[no-untyped-def]  # the mistake under test
        ...

    async def silent(ctx: object, text: str):  # type: ignore[no-untyped-def]  # the mistake under test
        ...

    async def starred(ctx: object, *texts: str) -> None: ...

    async def bare() -> None: ...

    async def foreign(ctx: object, made: "Nowhere") -> None: ...  # type: ignore[name-defined] # noqa: F821  # likewise

    async def opaque(ctx: object, made: complex) -> None: ...

    def waiting(ctx: object) -> None: ...

    for wrong, problem in (
        (untyped, "type of the result"),
        (silent, "type of the result"),
        (starred, "plain, named"),
        (bare, "context"),
        (foreign, "Nowhere"),
        (opaque, "can't be read from JSON"),
        (waiting, "async def"),
    ):
        with pytest.raises(RegistrationError, match=f"t.t: .*{problem}"):
            signature_of("t.t", wrong)

    async def half_typed(ctx: object, text) -> None:  # type: ignore[no-untyped-def]  # the mistake under test
        ...

    with pytest.raises(RegistrationError, match="`text` needs a type"):
        signature_of("t.t", half_typed)


def test_a_value_is_camel_case_on_the_wire_and_frozen() -> None:
    item = Item(item_name="a")
    assert msgspec.json.decode(msgspec.json.encode(item)) == {"itemName": "a", "share": "0.50"}
    assert issubclass(Item, Struct)
    with pytest.raises(AttributeError):
        item.item_name = "b"  # type: ignore[misc]  # what frozen forbids
