"""Results as short texts, so that what a client was shown and what the database had can be compared by the million.

A row becomes `<id>#<digest>`; a result is a tuple of these, in its order, with `MORE` behind them where there is more.
"""

import hashlib
import json
from typing import Any, NamedTuple

Result = tuple[str, ...]

MORE = "(more)#"
"""The last of a result that goes on behind its window."""


class Key(NamedTuple):
    """A live query as all who may see the same know it. `args`: canonical JSON, as `args_text` spells it."""

    tenant: str
    query: str
    args: str


def args_text(args: dict[str, Any]) -> str:
    return json.dumps(args, sort_keys=True, separators=(",", ":"))


def row_text(row: Any) -> str:
    """Equal for rows that are equal as JSON values, whatever the order of their fields."""
    plain = json.dumps(row, sort_keys=True, separators=(",", ":"))
    digest = hashlib.blake2b(plain.encode(), digest_size=6).hexdigest()
    return f"{row_id(row)}#{digest}"


def row_id(row: Any) -> str:
    """The row's identity; a value that is no row has none."""
    return str(row.get("id", "")) if isinstance(row, dict) else ""


def id_of(text: str) -> str:
    """The identity in a row's text."""
    return text.rpartition("#")[0]
