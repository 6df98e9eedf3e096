"""Names and texts become part of an SQL text only as what they are."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bonfire.store.identifiers import quote_identifier, quote_literal
from bonfire.store.pool import Database


@pytest.mark.parametrize("name", ["", "a\0b", "x" * 64, "ä" * 32])
def test_what_is_no_identifier_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="identifier"):
        quote_identifier(name)


def test_a_text_with_nul_is_refused() -> None:
    with pytest.raises(ValueError, match="NUL"):
        quote_literal("a\0b")


@given(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1, max_size=15))
def test_a_quoted_identifier_ends_where_it_should(name: str) -> None:
    quoted = quote_identifier(name)
    assert quoted[0] == quoted[-1] == '"'
    assert '"' not in quoted[1:-1].replace('""', "")


@pytest.mark.parametrize("conforming", ["on", "off"])
async def test_a_quoted_text_is_that_text(database: Database, conforming: str) -> None:
    async with database.owner() as conn:
        await conn.execute("set escape_string_warning = off")
        await conn.execute("select set_config('standard_conforming_strings', $1, false)", conforming)
        for text in ("", "a'b", "a\\'b", "\\", "'; drop table patient; --", "$$", "ä\n\u2028", "a''b", "\\x41"):
            assert await conn.fetchval(f"select {quote_literal(text)}") == text


async def test_a_quoted_name_is_that_name(database: Database) -> None:
    async with database.owner() as conn:
        for name in ('a"b', "group", "A b", "ä", "a'b", '"', "$1"):
            row = await conn.fetchrow(f"select 1 as {quote_identifier(name)}")
            assert list(row.keys()) == [name]
