"""SQL statements kept in files: `sql/<file>.sql` holds several, each under a line `-- <name>: <what it does>`.

Some are templates, with `{{fields}}` for what can be no parameter: a table's name, an operator's schema.
"""

import re
from collections.abc import Mapping
from pathlib import Path

_FOLDER = Path(__file__).with_name("sql")

_CAPTION = re.compile(r"^-- (\w+): .+$", re.MULTILINE)


_FIELD = re.compile(r"\{\{(\w+)\}\}")


def read_statements(file: str, folder: Path | None = None) -> Mapping[str, str]:
    """The statements of `sql/<file>.sql` by name, in this room or in another one's `folder`. ValueError when a name
    comes twice or a statement is empty."""
    parts = _CAPTION.split(((folder or _FOLDER) / f"{file}.sql").read_text(encoding="utf-8"))
    statements: dict[str, str] = {}
    for name, text in zip(parts[1::2], parts[2::2], strict=True):
        if name in statements or not text.strip():
            raise ValueError(f"sql/{file}.sql: `{name}` comes twice or is empty")
        statements[name] = text.strip()
    return statements


def fill(template: str, **parts: str) -> str:
    """A template's statement: each field is one of `parts`, which are SQL by themselves (names are quoted already).
    What is filled in is not read again."""
    return _FIELD.sub(lambda match: parts[match[1]], template)
