"""Statement files: each statement has a name and a caption, and Postgres knows what it says."""

from pathlib import Path

import pytest

from bonfire.store import statements
from bonfire.store.pool import Database
from bonfire.store.reach import EVERYTHING
from bonfire.store.statements import fill, read_statements


def write(folder: Path, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    (folder / "some.sql").write_text(text)
    monkeypatch.setattr(statements, "_FOLDER", folder)


def test_statements_go_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, monkeypatch, "-- one: the first.\nselect 1\n\n-- two: the second.\nselect 2 -- two: no caption\n")
    assert read_statements("some") == {"one": "select 1", "two": "select 2 -- two: no caption"}


@pytest.mark.parametrize("text", ["-- one: a.\nselect 1\n-- one: b.\nselect 2\n", "-- one: a.\n-- two: b.\nselect 1\n"])
def test_a_name_twice_or_nothing_under_it_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    write(tmp_path, monkeypatch, text)
    with pytest.raises(ValueError, match="twice or is empty"):
        read_statements("some")


@pytest.mark.parametrize("file", ["resources", "app_state", "mutations"])
async def test_every_statement_can_be_prepared(database: Database, file: str) -> None:
    async with database.transaction("default", reach=EVERYTHING) as conn:
        for text in read_statements(file).values():
            await conn.prepare(text.replace("<current>", '"group"').replace("<history>", "group_history"))


def test_what_is_filled_in_is_not_read_again() -> None:
    assert fill("select {{columns}} from {{table}}", columns="'{{table}}'", table="t") == "select '{{table}}' from t"
    with pytest.raises(KeyError):
        fill("select {{columns}}", column="a")
