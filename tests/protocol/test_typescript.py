"""JSON Schema to TypeScript."""

from typing import Annotated, Any, Literal

import msgspec
import pytest
from msgspec import Meta, Raw, Struct

from bonfire_protocol.typescript import comment, declaration, property_name, type_of


class Inner(Struct):
    """An inner thing."""

    id: str


class Everything(Struct, rename="camel"):
    text: str
    count: int
    ratio: float
    flag: bool
    nothing: None
    maybe: str | None
    kind: Literal["a", "b"]
    some_list: list[int | None]
    pair: tuple[str, int]
    table: dict[str, float]
    any_thing: Any
    raw: Raw
    inner: Inner
    inners: list[Inner] = []
    bounded: Annotated[str, Meta(max_length=3, description="At most 3 letters.")] = ""


def test_a_struct_of_everything() -> None:
    _, components = msgspec.json.schema_components([Everything], ref_template="#/$defs/{name}")
    assert declaration("Everything", components["Everything"]) == (
        "export interface Everything {\n"
        "  readonly text: string;\n"
        "  readonly count: number;\n"
        "  readonly ratio: number;\n"
        "  readonly flag: boolean;\n"
        "  readonly nothing: null;\n"
        "  readonly maybe: string | null;\n"
        '  readonly kind: "a" | "b";\n'
        "  readonly someList: readonly (number | null)[];\n"
        "  readonly pair: readonly [string, number];\n"
        "  readonly table: { readonly [name: string]: number };\n"
        "  readonly anyThing: unknown;\n"
        "  readonly raw: unknown;\n"
        "  readonly inner: Inner;\n"
        "  readonly inners?: readonly Inner[];\n"
        "  /** At most 3 letters. */\n"
        "  readonly bounded?: string;\n"
        "}\n"
    )
    assert declaration("Inner", components["Inner"]).startswith("/** An inner thing. */\nexport interface Inner {")


@pytest.mark.parametrize(
    ("declared", "expected"),
    [
        (list[list[str]], "readonly (readonly string[])[]"),
        (list[dict[str, int]], "readonly { readonly [name: string]: number }[]"),
        (dict[str, list[str]], "{ readonly [name: string]: readonly string[] }"),
        (dict[str, Any], "{ readonly [name: string]: unknown }"),
        (Literal["it's", 'so "called"'], '"it\'s" | "so \\"called\\""'),
        (Annotated[int, Meta(ge=1)] | None, "number | null"),
    ],
)
def test_types(declared: Any, expected: str) -> None:
    assert type_of(msgspec.json.schema(declared)) == expected


def test_an_interface_without_fields_takes_none() -> None:
    class Empty(Struct, forbid_unknown_fields=True):
        pass

    _, components = msgspec.json.schema_components([Empty], ref_template="#/$defs/{name}")
    assert declaration("Empty", components["Empty"]) == "export type Empty = { readonly [name: string]: never };\n"


def test_a_schema_that_msgspec_never_writes_is_an_error() -> None:
    with pytest.raises(ValueError, match="no TypeScript type"):
        type_of({"type": "tuple"})


def test_comments_cannot_end_early() -> None:
    assert comment("a */ b") == "/** a *\\/ b */\n"
    assert comment("One.\n\n  Two.", "  ") == "  /**\n   * One.\n   *\n   * Two.\n   */\n"
    assert comment(None) == comment("") == ""


def test_property_names() -> None:
    assert property_name("plain_$1") == "plain_$1"
    assert property_name("not-plain") == '"not-plain"'
