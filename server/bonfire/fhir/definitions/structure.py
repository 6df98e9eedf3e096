"""The structure of every FHIR R4 type: its elements, their types and cardinalities.

Read from `structure.json` and `codes.json`, which `compile_structure.py` makes of the official 4.0.1 definitions.
Nothing here depends on R4B or R5: both have dropped and changed types that R4 data still uses.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from importlib.resources import files

import msgspec

from bonfire.fhir.definitions.primitives import PRIMITIVES

ANY_RESOURCE = "Resource"
"""The type of an element that holds any resource: `contained`, `Bundle.entry.resource`."""


@dataclass(frozen=True, slots=True)
class Property:
    """One JSON property of a type.

    `element` is the element's name (`value` for `valueQuantity`), as FHIRPath spells it; properties of one choice
    share it. `type` names a primitive, a type of this table, or `ANY_RESOURCE`. `companion` marks `_birthDate`: id
    and extensions of the primitive beside it; its `type` is `Element`. `codes` are those that a code must be one of,
    the value set called `value_set`; None where any is allowed.
    """

    name: str
    element: str
    type: str
    repeated: bool
    primitive: bool = False
    choice: bool = False
    companion: bool = False
    codes: frozenset[str] | None = None
    value_set: str = ""


@dataclass(frozen=True, slots=True)
class Required:
    """An element that has to be there: as one of `properties`. `name` is the definition's: `value[x]` for a choice."""

    name: str
    element: str
    properties: frozenset[str]


@dataclass(frozen=True, slots=True)
class Structure:
    """One type: `properties` by JSON name."""

    name: str
    properties: Mapping[str, Property]
    required: tuple[Required, ...]


@cache
def structures() -> Mapping[str, Structure]:
    """Every complex type, resource and inner element (`Patient.contact`) of R4 by name; read on first use."""
    folder = files("bonfire.fhir.definitions")
    table = msgspec.json.decode(folder.joinpath("structure.json").read_bytes(), type=dict[str, dict[str, str]])
    codes = msgspec.json.decode(folder.joinpath("codes.json").read_bytes(), type=dict[str, frozenset[str]])
    return {name: _structure(name, elements, codes) for name, elements in table.items()}


@cache
def resource_structures() -> Mapping[str, Structure]:
    """The concrete resource types alone."""
    return {
        name: structure
        for name, structure in structures().items()
        if "implicitRules" in structure.properties and name not in (ANY_RESOURCE, "DomainResource")
    }


def _structure(name: str, elements: Mapping[str, str], codes: Mapping[str, frozenset[str]]) -> Structure:
    properties: dict[str, Property] = {}
    required: list[Required] = []
    for element, spelled in elements.items():
        kind, _, value_set = spelled.partition("=")
        own = _properties(element, kind.rstrip("!*+").split("|"), repeated=kind.endswith(("*", "+")))
        if value_set:
            own[0] = replace(own[0], codes=codes[value_set], value_set=value_set)
        properties |= {each.name: each for each in own}
        if kind.endswith(("!", "+")):
            required.append(Required(element, own[0].element, frozenset(each.name for each in own)))
    return Structure(name, properties, tuple(required))


def _properties(element: str, types: list[str], *, repeated: bool) -> list[Property]:
    own: list[Property] = []
    choice = element.endswith("[x]")
    stem = element.removesuffix("[x]")
    for type_ in types:
        name = stem + type_[0].upper() + type_[1:] if choice else stem
        primitive = type_ in PRIMITIVES
        own.append(Property(name, stem, type_, repeated, primitive, choice))
        if primitive:
            own.append(Property("_" + name, stem, "Element", repeated, choice=choice, companion=True))
    return own
