"""Many records at once."""

import json
from typing import Any

from bonfire.fhir.criteria import parse_query
from bonfire.fhir.lookup import count_versions, find, read_many
from bonfire.store import resources
from bonfire.store.pool import Database
from bonfire.store.reach import EVERYTHING


async def store(database: Database, tenant: str, *given: tuple[str, str, Any]) -> None:
    async with database.transaction(tenant, reach=EVERYTHING) as conn:
        for type_, id_, identifier in given:
            await resources.create(conn, type_, json.dumps({"identifier": identifier}), id=id_)


async def test_records_are_found_by_every_form_of_identifier(database: Database) -> None:
    both = [{"system": "s", "value": "1"}, {"value": "2"}]
    await store(database, "north", ("Patient", "a", both), ("Patient", "b", [{"system": "s", "value": "1"}]))
    await store(database, "north", ("Bundle", "c", {"system": "s", "value": "1"}), ("Patient", "d", []))
    await store(database, "south", ("Patient", "e", both))
    expected = {
        "identifier=s|1": ["a", "b"],
        "identifier=1": ["a", "b"],
        "identifier=|2": ["a"],
        "identifier=|1": [],
        "identifier=s|1&identifier=2": ["a"],
        "identifier=2,s|1": ["a", "b"],
        "_id=a,d,e,none": ["a", "d"],
        "_id=b,d&identifier=s|1": ["b"],
    }
    sought = {query: parse_query("Patient", query) for query in expected}
    bundles = parse_query("Bundle", "identifier=s|1")
    async with database.transaction("north", reach=EVERYTHING) as conn:
        found = await find(conn, [*sought.values(), bundles])
    assert {query: found[criteria] for query, criteria in sought.items()} == expected
    assert found[bundles] == ["c"]


async def test_what_was_deleted_is_not_found(database: Database) -> None:
    await store(database, "north", ("Patient", "a", [{"value": "1"}]))
    criteria = parse_query("Patient", "identifier=1")
    async with database.transaction("north", reach=EVERYTHING) as conn:
        await resources.delete(conn, "Patient", "a")
        assert await find(conn, [criteria]) == {criteria: []}
        assert await read_many(conn, "Patient", ["a"]) == []
        assert await count_versions(conn, "Patient", "a") == 2


async def test_many_are_read_in_the_order_of_their_ids(database: Database) -> None:
    await store(database, "north", ("Patient", "b", []), ("Patient", "a", []), ("Patient", "c", []))
    async with database.transaction("north", reach=EVERYTHING) as conn:
        assert [version.id for version in await read_many(conn, "Patient", ["c", "a", "none"])] == ["a", "c"]
