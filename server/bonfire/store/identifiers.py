"""The one place where a name becomes part of an SQL text."""


def quote_identifier(name: str) -> str:
    """`name` as a quoted SQL identifier. ValueError for what Postgres can't take as one: an empty name, one with a
    NUL, one longer than 63 bytes (Postgres would cut it silently, and two names could become one)."""
    if not name or "\0" in name or len(name.encode()) > 63:
        raise ValueError("an SQL identifier has 1 to 63 bytes and no NUL")
    return '"' + name.replace('"', '""') + '"'


def quote_literal(text: str) -> str:
    """`text` as an SQL string literal, for the statements that take no parameters (SET, BEGIN; ...). Right whatever
    `standard_conforming_strings` says; ValueError for a NUL, which no Postgres text can hold."""
    if "\0" in text:
        raise ValueError("a Postgres text holds no NUL")
    if "\\" in text:
        return " E'" + text.replace("\\", "\\\\").replace("'", "''") + "'"
    return "'" + text.replace("'", "''") + "'"
