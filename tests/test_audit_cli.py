"""`bonfire audit`: what it prints, and its exit status."""

import argparse
import io
from collections.abc import Awaitable, Callable

import pytest
from rich.console import Console

from bonfire.access.audit import Event, Trail
from bonfire.audit_cli import add_arguments, run
from bonfire.store.pool import Database
from bonfire_protocol.faults import Fault


def parse(*words: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    return parser.parse_args(words)


async def audit(database: Database, *words: str) -> tuple[int, str]:
    printed = io.StringIO()
    given: list[Awaitable[int]] = []

    def keep(work: Callable[[Database], Awaitable[int]]) -> int:
        given.append(work(database))
        return 0

    run(parse(*words), Console(file=printed, width=200), keep)
    return await given[0], printed.getvalue()


async def record(database: Database) -> None:
    read = Event(
        tenant="default",
        action="R",
        subtype="read",
        surface="http",
        user="amara",
        patient="p1",
        what="Patient/p1",
        policies=("clinician",),
        outcome=4,
    )
    await Trail(database).record(read)


async def test_what_is_sealed_is_verified(database: Database) -> None:
    await record(database)
    assert await audit(database, "seal") == (0, "Sealed 1 events.\n")
    status, head = await audit(database, "head")
    assert head.startswith("1:")
    status, told = await audit(database, "verify", "--published", head.strip())
    assert status == 0
    assert told.startswith("1 events are as they were sealed, under 1 seals; 0 are too new")


async def test_what_was_altered_is_named(database: Database) -> None:
    await record(database)
    await audit(database, "seal")
    async with database.owner() as conn:
        await conn.execute(
            "alter table bonfire.audit disable trigger append_only; update bonfire.audit set user_id = 'ben'"
        )
        id = await conn.fetchval("select id from bonfire.audit")
    status, told = await audit(database, "verify")
    assert status == 1
    assert told.startswith("altered: a row was altered (")
    assert str(id) in told


async def test_a_list_is_an_event_too(database: Database) -> None:
    await record(database)
    status, told = await audit(database, "list", "--patient", "p1")
    assert status == 0
    assert "amara  read (refused)  Patient/p1  of Patient/p1  by clinician" in told
    assert "administer  audit list  of Patient/p1" in (await audit(database, "list"))[1]


async def test_nothing_young_is_dropped(database: Database) -> None:
    assert await audit(database, "prune", "--older-than", "6y") == (0, "No whole month is older than that.\n")
    with pytest.raises(Fault, match="the last month is kept"):
        await audit(database, "prune", "--older-than", "3d")


@pytest.mark.parametrize(
    "words",
    [[], ["prune"], ["prune", "--older-than", "6"], ["verify", "--published", "1:beef"], ["list", "--limit", "x"]],
)
def test_wrong_words_are_refused(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parse(*words)
    capsys.readouterr()
