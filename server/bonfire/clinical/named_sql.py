"""SQL with named parameters (`:patient_id`) -> SQL with Postgres' numbered ones (`$1`).

Only a colon outside of strings, quoted names, dollar quotes and comments names a parameter, and only where it is no
part of a cast (`x::text`), an assignment (`:=`) or an array's slice (`a[1:n]`).
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import msgspec
from msgspec import Struct

from bonfire.clinical.errors import RegistrationError
from bonfire.store.identifiers import quote_identifier
from bonfire.store.statements import fill

# The order matters: what may hide a colon comes before the colon itself.
_TOKEN = re.compile(
    r"""
      (?P<quoted>        \b[eE]'(?:[^'\\]|\\.|'')*' | '(?:[^']|'')*' | "(?:[^"]|"")*" )
    | (?P<dollar>        (?<![\w$])\$(?:[A-Za-z_]\w*)?\$ )
    | (?P<line_comment>  --[^\n]* )
    | (?P<block_comment> /\* )
    | (?P<numbered>      (?<![\w$])\$\d+ )
    | (?P<cast>          :: | := )
    | (?P<parameter>     (?<![\w\])"]):[A-Za-z_]\w* )
    | (?P<separator>     ; )
    """,
    re.VERBOSE | re.DOTALL | re.ASCII,
)
# The developer's own SQL within ours: on lines of its own, because it may end in a comment.
_AS_JSON = "select row_to_json(r)::text from (select {{columns}} from (\n{{sql}}\n) q) r"
_AS_ROWS = "select * from (\n{{sql}}\n) q"

_COMMENT_EDGE = re.compile(r"/\*|\*/")


@dataclass(frozen=True)
class Numbered:
    """`text` with `$1`, `$2`...; `names[i]` is the parameter of number i + 1. A name used twice has one number."""

    text: str
    names: tuple[str, ...]


def number(sql: str, spell: Callable[[str, int], str] = lambda _name, place: f"${place}") -> Numbered:
    """Numbers the named parameters of one statement. `spell(name, place)` writes one of them (say, with a cast).

    ValueError when the text holds more than one statement, uses `$1` itself, or leaves a comment open.
    """
    sql = sql.strip().removesuffix(";")
    names: list[str] = []
    parts: list[str] = []
    at = 0
    while found := _TOKEN.search(sql, at):
        parts.append(sql[at : found.start()])
        at = found.end()
        match found.lastgroup:
            case "parameter":
                name = found[0][1:]
                if name not in names:
                    names.append(name)
                parts.append(spell(name, names.index(name) + 1))
            case "dollar":
                end = sql.find(found[0], at)
                if end < 0:
                    raise ValueError(f"a string {found[0]} is never closed")
                parts.append(sql[found.start() : end + len(found[0])])
                at = end + len(found[0])
            case "block_comment":
                at = _end_of_comment(sql, at)
                parts.append(" ")
            case "line_comment":
                parts.append(" ")
            case "numbered":
                raise ValueError("name the parameters (`:patient_id`): numbered ones (`$1`) can't be mixed in")
            case "separator":
                raise ValueError("write one statement: there is a `;` inside the text")
            case _:
                parts.append(found[0])
    parts.append(sql[at:])
    return Numbered("".join(parts), tuple(names))


def _end_of_comment(sql: str, at: int) -> int:
    # Postgres' block comments nest.
    depth = 1
    while depth:
        edge = _COMMENT_EDGE.search(sql, at)
        if edge is None:
            raise ValueError("a comment `/*` is never closed")
        depth += 1 if edge[0] == "/*" else -1
        at = edge.end()
    return at


Columns = tuple[tuple[str, str], ...]
"""A row struct's fields: their Python names, which are the SQL's column names, and their names on the wire."""


def columns_of(name: str, row: Any) -> Columns:
    """The columns that a SELECT for rows of type `row` has to give. RegistrationError when `row` is no struct."""
    if not (isinstance(row, type) and issubclass(row, Struct)):
        raise RegistrationError(f"{name}: a row of SQL is a struct: `class TaskRow(Value): id: str`")
    return tuple((field.name, field.encode_name) for field in msgspec.structs.fields(row))


def as_rows(sql: str) -> str:
    """`sql` as a subquery, whose columns tell what it gives."""
    return fill(_AS_ROWS, sql=sql)


def as_json(sql: str, columns: Columns) -> str:
    """`sql`, each of its rows as one JSON text with the wire's names, in the order that `sql` gives them."""
    listed = ", ".join(f"q.{quote_identifier(python)} as {quote_identifier(wire)}" for python, wire in columns)
    return fill(_AS_JSON, columns=listed, sql=sql)
