"""JSON Schema -> TypeScript: the part of it that msgspec writes.

A pure function of the schema, so that the same declarations always give the same text. Objects become
`readonly` interfaces; a field that may be left out becomes optional; what a schema does not restrict is `unknown`.
"""

import json
import re
from collections.abc import Mapping
from typing import Any

Schema = Mapping[str, Any]

_IDENTIFIER = re.compile(r"[A-Za-z_$][A-Za-z0-9_$]*")
_PRIMITIVES = {"string": "string", "integer": "number", "number": "number", "boolean": "boolean", "null": "null"}


def declaration(name: str, schema: Schema) -> str:
    """`schema` as an exported interface (an object with named fields) or type alias called `name`."""
    head = comment(schema.get("description"))
    if schema.get("properties"):
        return f"{head}export interface {name} {_fields(schema, '')}\n"
    return f"{head}export type {name} = {type_of(schema)};\n"


def type_of(schema: Schema, indent: str = "") -> str:
    """The TypeScript type that `schema` describes. ValueError where it uses a word that msgspec never writes."""
    match schema:
        case {"$ref": str(path)}:
            return path.rpartition("/")[2]
        case {"enum": [*values]}:
            return " | ".join(json.dumps(value) for value in values)
        case {"const": value}:
            return json.dumps(value)
        case {"anyOf": [*members]} | {"oneOf": [*members]}:
            return " | ".join(dict.fromkeys(type_of(member, indent) for member in members))
        case {"type": [*names]}:
            return " | ".join(type_of({**schema, "type": name}, indent) for name in names)
        case {"type": "array", "prefixItems": [*items]}:
            return f"readonly [{', '.join(type_of(item, indent) for item in items)}]"
        case {"type": "array"}:
            return f"readonly {_grouped(type_of(_items(schema), indent))}[]"
        case {"type": "object", "properties": _}:
            return _fields(schema, indent)
        case {"type": "object", "additionalProperties": dict(values)}:
            return _table(type_of(values, indent))
        case {"type": "object"}:
            return _table("unknown")
        case {"type": str(name)} if name in _PRIMITIVES:
            return _PRIMITIVES[name]
        case _ if "type" not in schema:
            return "unknown"
    raise ValueError(f"no TypeScript type for the schema words {sorted(schema)}")


def comment(text: str | None, indent: str = "") -> str:
    """`text` as a JSDoc comment before a declaration; nothing where there is no text."""
    if not text:
        return ""
    lines = [line.strip() for line in text.replace("*/", "*\\/").strip().splitlines()]
    if len(lines) == 1:
        return f"{indent}/** {lines[0]} */\n"
    body = "".join(f"{indent} *{' ' if line else ''}{line}\n" for line in lines)
    return f"{indent}/**\n{body}{indent} */\n"


def property_name(name: str) -> str:
    """`name` as an object's key: bare where it is an identifier, quoted where it is not."""
    return name if _IDENTIFIER.fullmatch(name) else json.dumps(name)


def _fields(schema: Schema, indent: str) -> str:
    inner = indent + "  "
    required = set(schema.get("required", ()))
    lines = [
        f"{comment(field.get('description') if '$ref' not in field else None, inner)}"
        f"{inner}readonly {property_name(name)}{'' if name in required else '?'}: {type_of(field, inner)};\n"
        for name, field in schema["properties"].items()
    ]
    return "{\n" + "".join(lines) + indent + "}" if lines else _table("never")


def _table(values: str) -> str:
    # Spelled out, because a declaration of the user's may be called Record.
    return f"{{ readonly [name: string]: {values} }}"


def _items(schema: Schema) -> Schema:
    items = schema.get("items", {})
    return items if isinstance(items, Mapping) else {}


def _grouped(type_: str) -> str:
    return f"({type_})" if " | " in type_ or type_.startswith("readonly ") else type_
