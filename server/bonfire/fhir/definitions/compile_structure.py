"""Compile the official R4 StructureDefinitions into `structure.json`.

    python -m bonfire.fhir.definitions.compile_structure PACKAGE

PACKAGE is the unpacked npm package `hl7.fhir.r4.examples` 4.0.1, whose StructureDefinitions are the normative base
ones (CC0). The output holds, per type, each element's types and cardinality:

    {"Patient": {"name": "HumanName*", "deceased[x]": "boolean|dateTime", "contact": "Patient.contact*"}}

A trailing `!` means 1..1, `*` means 0..n, `+` means 1..n, nothing means 0..1. An element with children of its own
has the type of its path. Elements that a type inherits are written out, so that a look-up needs no second table.
"""

import json
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

_OUTPUT = Path(__file__).with_name("structure.json")
_SYSTEM_TYPE = "http://hl7.org/fhirpath/System."


def compile_structure(definitions: Iterable[dict[str, Any]]) -> dict[str, dict[str, str]]:
    """The table for all types that `definitions` define; constraints on other types, and logical models, are passed
    over, primitives have no elements."""
    table: dict[str, dict[str, str]] = {}
    for definition in definitions:
        if definition["kind"] not in ("resource", "complex-type") or definition.get("derivation") == "constraint":
            continue
        elements = definition["snapshot"]["element"]
        parents = {element["path"].rpartition(".")[0] for element in elements}
        for element in elements:
            path = element["path"]
            if path in parents:
                table.setdefault(path, {})
        for element in elements[1:]:
            parent, _, name = element["path"].rpartition(".")
            table[parent][name] = _types(element, parents) + _cardinality(element)
    return dict(sorted(table.items()))


def _types(element: dict[str, Any], parents: set[str]) -> str:
    if "contentReference" in element:
        return str(element["contentReference"]).removeprefix("#")
    if element["path"] in parents:
        return str(element["path"])
    codes = [str(type_["code"]) for type_ in element["type"]]
    if codes[0].startswith(_SYSTEM_TYPE):
        # The definitions give the ids of resources and elements, and an extension's url, as FHIRPath types.
        return {"Resource.id": "id", "Extension.url": "uri"}.get(element["base"]["path"], "string")
    return "|".join(codes)


def _cardinality(element: dict[str, Any]) -> str:
    required, repeated = element["min"] > 0, element["base"]["max"] != "1"
    return {(False, False): "", (True, False): "!", (False, True): "*", (True, True): "+"}[required, repeated]


def _main(package: Path) -> None:
    paths = sorted(package.glob("StructureDefinition-*.json"))
    table = compile_structure(json.loads(path.read_bytes()) for path in paths)
    lines = ",\n".join(f"{json.dumps(name)}: {json.dumps(elements)}" for name, elements in table.items())
    _OUTPUT.write_text("{\n" + lines + "\n}\n")


if __name__ == "__main__":
    _main(Path(sys.argv[1]))
