"""The schema as the migrations leave it, as text that can be read and compared.

`schema.txt` beside this file is that text for the newest migration. A test holds the two together, so whoever writes a
migration sees in the same change what it makes of the schema:

    python -m bonfire.store.schema URL            writes schema.txt, from a scratch database on that server
    python -m bonfire.store.schema URL --check    says whether it is as it should be
"""

import argparse
import asyncio
import re
import secrets
import sys
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import asyncpg
from msgspec import Struct

from bonfire.store.identifiers import quote_identifier
from bonfire.store.migrate import migrate
from bonfire.store.statements import read_statements
from bonfire.store.types import RESOURCE_TYPES, table_of

SNAPSHOT = Path(__file__).with_name("schema.txt")

_FACTS = read_statements("schema")["facts"]

# Shown in full, for all types of records: the one that nobody has reason to give anything of its own.
_REPRESENTATIVE = "Basic"


class SchemaError(Exception):
    """The tables of some type of records lack something that the others have."""


class Fact(Struct, frozen=True):
    """One thing that is so in the database: `object` is what it is about."""

    object: str
    text: str


async def describe(conn: asyncpg.Connection) -> str:
    """The schemas `bonfire` and `public`, normalised: of the record types one for all, and what others have besides.

    SchemaError when a type of records lacks something of it.
    """
    facts = [Fact(row["object"], row["fact"]) for row in await conn.fetch(_FACTS)]
    types = [_type_of(fact.object) for fact in facts]
    shapes: dict[str, set[Fact]] = {resource_type: set() for resource_type in RESOURCE_TYPES}
    for fact, resource_type in zip(facts, types, strict=True):
        if resource_type is not None:
            shapes[resource_type].add(_anonymous(resource_type, fact))
    common = shapes[_REPRESENTATIVE]
    poor = [resource_type for resource_type in sorted(shapes) if common - shapes[resource_type]]
    if poor:
        raise SchemaError(f"they lack something that {_REPRESENTATIVE} has: {', '.join(poor)}")
    objects: dict[str, list[str]] = {}
    for fact, resource_type in zip(facts, types, strict=True):
        if resource_type in (None, _REPRESENTATIVE) or _anonymous(resource_type, fact) not in common:
            objects.setdefault(fact.object, []).append(f"  {_indented(fact.text)}\n")
    parts = [f"{name}\n" + "".join(lines) for name, lines in objects.items()]
    return f"Each type of records has what {_REPRESENTATIVE} has; what it has besides is said.\n\n" + "\n".join(parts)


_OWN_OBJECT = re.compile(
    r'table public\."?(\w+?)(?:_history)?"?'
    r"|function bonfire\.(\w+?)(?:_history)?_(?:before|after)_(?:insert|update|delete)\(\)"
)

_BY_TABLE = {table_of(resource_type): resource_type for resource_type in RESOURCE_TYPES}


def _type_of(name: str) -> str | None:
    """The type of records that the object belongs to."""
    match = _OWN_OBJECT.fullmatch(name)
    return _BY_TABLE.get(match[1] or match[2]) if match else None


def _anonymous(resource_type: str, fact: Fact) -> Fact:
    """The fact with the type's name taken out of it."""
    name = re.compile(rf'(?<![A-Za-z0-9])"?{table_of(resource_type)}"?(?![A-Za-z0-9])')
    text = fact.text.replace(f"'{resource_type}'", "'<Type>'")
    return Fact(name.sub("<type>", fact.object), name.sub("<type>", text))


def _indented(text: str) -> str:
    return "\n".join(f"  {line}".rstrip() for line in text.splitlines()).lstrip()


async def describe_migrated(url: str) -> str:
    """What the migrations make of an empty database: one is made on the server of `url`, and dropped again."""
    name = f"bonfire_schema_{secrets.token_hex(6)}"
    conn = await asyncpg.connect(url)
    try:
        await conn.execute(f"create database {quote_identifier(name)} template template0")
        try:
            scratch_url = urlunsplit(urlsplit(url)._replace(path=f"/{name}"))
            await migrate(scratch_url)
            scratch = await asyncpg.connect(scratch_url)
            try:
                return await describe(scratch)
            finally:
                await scratch.close()
        finally:
            await conn.execute(f"drop database {quote_identifier(name)} with (force)")
    finally:
        await conn.close()


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bonfire.store.schema")
    parser.add_argument("url", help="a Postgres 18 whose role may create databases")
    parser.add_argument("--check", action="store_true", help="compare with schema.txt, and write nothing")
    arguments = parser.parse_args()
    text = asyncio.run(describe_migrated(arguments.url))
    if not arguments.check:
        SNAPSHOT.write_text(text, encoding="utf-8")
        return 0
    if text == SNAPSHOT.read_text(encoding="utf-8"):
        return 0
    print(f"{SNAPSHOT} is stale: run python -m bonfire.store.schema URL", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
