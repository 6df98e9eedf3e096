"""Many records at once, by identifier or by id; locks on what is looked up; versions counted.

`conn` is a connection inside `Database.transaction`.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from functools import cache
from pathlib import Path

import asyncpg

from bonfire.fhir.criteria import Criteria, Token
from bonfire.store.identifiers import quote_identifier
from bonfire.store.resources import Version
from bonfire.store.types import table_of

_FOLDER = Path(__file__).with_name("sql")


async def find(conn: asyncpg.Connection, sought: Iterable[Criteria]) -> dict[Criteria, list[str]]:
    """The ids of the current records that meet each of the criteria, sorted. Two statements per resource type."""
    by_type: defaultdict[str, list[Criteria]] = defaultdict(list)
    for criteria in dict.fromkeys(sought):
        by_type[criteria.resource_type].append(criteria)
    found: dict[Criteria, list[str]] = {}
    for resource_type, group in sorted(by_type.items()):
        having = await _having(conn, resource_type, {token for each in group for token in _tokens(each)})
        present = await _present(conn, resource_type, {id_ for each in group for ids in each.ids for id_ in ids})
        for criteria in group:
            terms = [present & ids for ids in criteria.ids]
            terms += [set[str]().union(*(having[token] for token in tokens)) for tokens in criteria.identifiers]
            found[criteria] = sorted(set.intersection(*terms))
    return found


async def read_many(
    conn: asyncpg.Connection, resource_type: str, ids: Iterable[str], *, held: bool = False
) -> list[Version]:
    """The current versions under `ids`, sorted by id; what is not there is left out. `held`: nobody else changes them
    until this transaction ends, so that what is decided of them holds."""
    rows = await conn.fetch(_statement("hold_many" if held else "read_many", resource_type), list(ids))
    return [Version(*row) for row in rows]


async def count_versions(
    conn: asyncpg.Connection, resource_type: str, id_: str, *, since: datetime | None = None
) -> int:
    """How many versions the record has, tombstones included, not older than the time `since`."""
    count: int = await conn.fetchval(_statement("count_versions", resource_type), id_, since)
    return count


async def lock(conn: asyncpg.Connection, conditions: Sequence[Criteria]) -> None:
    """Let no two transactions create under the same condition at once: the later one waits, then sees the first's."""
    if conditions:
        types, keys = [each.resource_type for each in conditions], [each.key for each in conditions]
        await conn.fetch(_text("lock_conditions"), types, keys)


async def _having(conn: asyncpg.Connection, resource_type: str, tokens: set[Token]) -> Mapping[Token, set[str]]:
    having: defaultdict[Token, set[str]] = defaultdict(set)
    if tokens:
        sought = list(tokens)
        systems, values = [token.system for token in sought], [token.value for token in sought]
        for number, id_ in await conn.fetch(_statement("find_identifiers", resource_type), systems, values):
            having[sought[number - 1]].add(id_)
    return having


async def _present(conn: asyncpg.Connection, resource_type: str, ids: set[str]) -> set[str]:
    if not ids:
        return set()
    return {version.id for version in await read_many(conn, resource_type, ids)}


def _tokens(criteria: Criteria) -> Iterable[Token]:
    return (token for group in criteria.identifiers for token in group)


@cache
def _text(name: str) -> str:
    return (_FOLDER / f"{name}.sql").read_text(encoding="utf-8")


@cache
def _statement(name: str, resource_type: str) -> str:
    table = table_of(resource_type)
    text = _text(name).replace("<current>", quote_identifier(table))
    return text.replace("<history>", quote_identifier(f"{table}_history"))
