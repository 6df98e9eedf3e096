"""Whether tables are still those that a transaction's snapshot knows.

Postgres lets a snapshot see no rows of a table that was made after it, and of one that was truncated after it neither
the old rows nor the new. Who waited for such a statement to end, with a snapshot from before it, reads an empty table
and no error. What gives it away: `pg_class` is read by the snapshot, and functions that look up a table see the newest.
"""

from collections.abc import Iterable

import asyncpg

Table = tuple[str, str]
"""(schema, name)."""

_REPLACED = """
select exists (
  select
  from unnest($1::text[], $2::text[]) as wanted (schema, name)
    join pg_namespace n on n.nspname = wanted.schema
    join pg_class c on c.relnamespace = n.oid and c.relname = wanted.name
  where pg_relation_filenode(c.oid) is distinct from c.relfilenode
)
"""


async def replaced(conn: asyncpg.Connection, tables: Iterable[Table]) -> bool:
    """Whether any of the tables was made anew or emptied since the transaction of `conn` took its snapshot. To be asked
    after they were read."""
    schemas, names = [], []
    for schema, name in tables:
        schemas.append(schema)
        names.append(name)
    return bool(await conn.fetchval(_REPLACED, schemas, names))
