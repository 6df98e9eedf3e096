"""The check finds what a read table has wrong."""

import json

import pytest

from bonfire.store.check import Difference, check
from bonfire.store.model import ModelError
from bonfire.store.pool import Database
from bonfire.store.readmodels import install
from support.shelf import LATEST, NAMES, SHELF, THINGS, put, thing


async def test_true_tables_have_no_differences(database: Database) -> None:
    async with database.owner() as conn:
        await install(conn, SHELF)
        for n in range(5):
            await put(conn, f"x{n}", thing("p", title=f"{n}", kind=f"k{n % 2}"), tenant=f"t{n % 2}")
        assert await check(conn, SHELF) == []


@pytest.mark.parametrize(
    ("tampered", "found"),
    [
        ("delete from read.names where id = 'x1'", ("names", "t", "x1", "missing")),
        ("update read.names set title = 'other' where id = 'x1'", ("names", "t", "x1", "different")),
        ("update read.names set title = null where id = 'x1'", ("names", "t", "x1", "different")),
        ("update read.names set facets = '{label:}' where id = 'x1'", ("names", "t", "x1", "different")),
        ("insert into read.names (tenant, id, facets) values ('u', 'y', '{}')", ("names", "u", "y", "extra")),
        (
            "update read.things_by_patient set size = 1.0 where id = 'Basic/x1'",
            ("thingsByPatient", "t", "Basic/x1", "different"),
        ),
        ("update read.latest_things set title = '0' where id = 'p/k'", ("latestThings", "t", "p/k", "different")),
        ("delete from read.latest_things", ("latestThings", "t", "p/k", "missing")),
        (
            "alter table basic disable trigger bonfire_20_views_delete; delete from basic where id = 'x1'",
            ("names", "t", "x1", "extra"),
        ),
    ],
)
async def test_a_tampered_table_is_found(database: Database, tampered: str, found: tuple[str, str, str, str]) -> None:
    async with database.owner() as conn:
        await install(conn, SHELF)
        for n in range(3):
            await put(conn, f"x{n}", thing("p", title=f"{n}", kind="k", at=f"202{n}", size=1))
        await conn.execute(tampered)
        differences = await check(conn, SHELF)
        assert Difference(*found, total=1) in differences  # type: ignore[arg-type]  # one of the kinds
        assert {difference.model for difference in differences} >= {found[0]}
        rebuilt = await install(conn, SHELF, rebuild=[model.name for model in SHELF])
        assert rebuilt == [model.name for model in SHELF]
        assert await check(conn, SHELF) == []


async def test_a_base_table_that_is_wrong_shows_in_what_it_yields(database: Database) -> None:
    """The check does not trust the candidates that the triggers keep: it goes back to the records."""
    async with database.owner() as conn:
        await install(conn, SHELF)
        await put(conn, "old", thing("p", title="old", kind="k", at="2020"))
        await put(conn, "new", thing("p", title="new", kind="k", at="2021"))
        await conn.execute("delete from read_base.latest_things where id = 'old'")
        assert await check(conn, [LATEST]) == []
        await conn.execute("delete from basic where id = 'new'")
        assert await check(conn, [LATEST]) == [Difference("latestThings", "t", "p/k", "missing", 1)]


async def test_the_list_is_bounded_and_says_how_many_there_are(database: Database) -> None:
    async with database.owner() as conn:
        await install(conn, SHELF)
        await conn.execute(
            "insert into basic (tenant, id, resource) select 't', 'x' || n, $1 from generate_series(1, 50) n",
            json.dumps(thing("p", title="A")),
        )
        await conn.execute("delete from read.names")
        differences = await check(conn, [NAMES], limit=3)
    assert [(difference.id, difference.total) for difference in differences] == [("x1", 50), ("x10", 50), ("x11", 50)]


async def test_a_model_that_is_not_installed_is_said_to_be_so(database: Database) -> None:
    async with database.owner() as conn:
        await install(conn, [NAMES])
        with pytest.raises(ModelError, match="`thingsByPatient` is not installed as declared: run `bonfire migrate`"):
            await check(conn, [NAMES, THINGS])
