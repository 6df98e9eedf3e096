"""Compile the official R4 definitions into `structure.json` and `codes.json`.

    python -m bonfire.fhir.definitions.compile_structure PACKAGE

PACKAGE is the unpacked npm package `hl7.fhir.r4.examples` 4.0.1, whose definitions are the normative base ones (CC0).
`structure.json` holds, per type, each element's types and cardinality:

    {"Patient": {"name": "HumanName*", "deceased[x]": "boolean|dateTime", "gender": "code=administrative-gender"}}

A trailing `!` means 1..1, `*` means 0..n, `+` means 1..n, nothing means 0..1. An element with children of its own
has the type of its path. Elements that a type inherits are written out, so that a look-up needs no second table.
`=` names the value set that a code is bound to, where the binding is required and the set can be listed:
`codes.json` lists it.
"""

import json
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

_FOLDER = Path(__file__).parent
_SYSTEM_TYPE = "http://hl7.org/fhirpath/System."

Definition = dict[str, Any]
Structures = dict[str, dict[str, str]]
Codes = dict[str, list[str]]


def compile_definitions(definitions: Iterable[Definition]) -> tuple[Structures, Codes]:
    """Both tables, from StructureDefinitions, ValueSets and CodeSystems; other resources are passed over, and so are
    constraints on other types and logical models. Primitives have no elements."""
    types: list[Definition] = []
    terms: dict[tuple[str, str], Definition] = {}
    for definition in definitions:
        match definition.get("resourceType"):
            case "StructureDefinition" if _is_type(definition):
                types.append(definition)
            case "ValueSet" | "CodeSystem" as kind:
                terms.setdefault((kind, definition["url"]), definition)
    structures: Structures = {}
    codes: Codes = {}
    for type_ in types:
        _add(type_["snapshot"]["element"], terms, structures, codes)
    return dict(sorted(structures.items())), dict(sorted(codes.items()))


def _is_type(definition: Definition) -> bool:
    return definition["kind"] in ("resource", "complex-type") and definition.get("derivation") != "constraint"


def _add(
    elements: list[Definition], terms: Mapping[tuple[str, str], Definition], structures: Structures, codes: Codes
) -> None:
    parents = {element["path"].rpartition(".")[0] for element in elements}
    for element in elements:
        if element["path"] in parents:
            structures.setdefault(element["path"], {})
    for element in elements[1:]:
        parent, _, name = element["path"].rpartition(".")
        spelled = _types(element, parents) + _cardinality(element)
        bound = _bound(element)
        listed = _expand(bound, terms) if bound else None
        if listed:
            value_set = bound.rpartition("/")[2]
            codes[value_set] = sorted(set(listed))
            spelled += f"={value_set}"
        structures[parent][name] = spelled


def _types(element: Definition, parents: set[str]) -> str:
    if "contentReference" in element:
        return str(element["contentReference"]).removeprefix("#")
    if element["path"] in parents:
        return str(element["path"])
    codes = [str(type_["code"]) for type_ in element["type"]]
    if codes[0].startswith(_SYSTEM_TYPE):
        # The definitions give the ids of resources and elements, and an extension's url, as FHIRPath types.
        return {"Resource.id": "id", "Extension.url": "uri"}.get(element["base"]["path"], "string")
    return "|".join(codes)


def _cardinality(element: Definition) -> str:
    required, repeated = element["min"] > 0, element["base"]["max"] != "1"
    return {(False, False): "", (True, False): "!", (False, True): "*", (True, True): "+"}[required, repeated]


def _bound(element: Definition) -> str:
    """The URL of the value set that a code must come from; empty where there is none."""
    binding = element.get("binding", {})
    if binding.get("strength") != "required" or [each["code"] for each in element.get("type", ())] != ["code"]:
        return ""
    return str(binding.get("valueSet", "")).partition("|")[0]


def _expand(url: str, terms: Mapping[tuple[str, str], Definition]) -> list[str] | None:
    """All codes of a value set; None where they can't be listed: filters, exclusions, systems that are not here."""
    compose = terms.get(("ValueSet", url), {}).get("compose")
    if compose is None or "exclude" in compose:
        return None
    found: list[str] = []
    for include in compose["include"]:
        part = _included(include, terms)
        if part is None:
            return None
        found += part
    return found


def _included(include: Definition, terms: Mapping[tuple[str, str], Definition]) -> list[str] | None:
    if "filter" in include or "valueSet" in include:
        return None
    if "concept" in include:
        return [concept["code"] for concept in include["concept"]]
    system = terms.get(("CodeSystem", include["system"]), {})
    return list(_concepts(system["concept"])) if system.get("content") == "complete" else None


def _concepts(concepts: Iterable[Definition]) -> Iterator[str]:
    for concept in concepts:
        yield concept["code"]
        yield from _concepts(concept.get("concept", ()))


def _main(package: Path) -> None:
    structures, codes = compile_definitions(json.loads(path.read_bytes()) for path in sorted(package.glob("*-*.json")))
    for name, table in (("structure.json", structures), ("codes.json", codes)):
        lines = ",\n".join(f"{json.dumps(key)}: {json.dumps(value)}" for key, value in table.items())
        (_FOLDER / name).write_text("{\n" + lines + "\n}\n")


if __name__ == "__main__":
    _main(Path(sys.argv[1]))
