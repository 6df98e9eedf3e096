"""SQL statements kept in files: `sql/<file>.sql` holds several, each under a line `-- <name>: <what it does>`."""

import re
from collections.abc import Mapping
from pathlib import Path

_FOLDER = Path(__file__).with_name("sql")

_CAPTION = re.compile(r"^-- (\w+): .+$", re.MULTILINE)


def read_statements(file: str) -> Mapping[str, str]:
    """The statements of `sql/<file>.sql` by name. ValueError when a name comes twice or a statement is empty."""
    parts = _CAPTION.split((_FOLDER / f"{file}.sql").read_text(encoding="utf-8"))
    statements: dict[str, str] = {}
    for name, text in zip(parts[1::2], parts[2::2], strict=True):
        if name in statements or not text.strip():
            raise ValueError(f"sql/{file}.sql: `{name}` comes twice or is empty")
        statements[name] = text.strip()
    return statements
