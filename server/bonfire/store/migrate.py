"""Bring a database to the newest schema: numbered SQL files, forward only, each in one transaction.

Invariant: the table `bonfire.migration` names exactly the files that have been applied, with their checksums. Two
processes that start at once wait for each other on an advisory lock, and the second finds nothing left to do.
"""

import hashlib
import re
from pathlib import Path

import asyncpg
from msgspec import Struct

from bonfire.store.pool import connecting

MIGRATIONS = Path(__file__).with_name("migrations")

# Any constant will do, as long as it is this one: the key of the lock that migrating processes wait on.
_LOCK_KEY = 0x626F6E66697265

_NAME = re.compile(r"(\d{4})_[a-z0-9_]+\.sql")


class MigrationError(Exception):
    """The database can't be brought to this schema; the message says why and what to do."""


class Migration(Struct, frozen=True):
    """One file: `number` gives the order, `name` is the file's name without the suffix."""

    number: int
    name: str
    sql: str

    @property
    def checksum(self) -> str:
        return hashlib.sha256(self.sql.encode()).hexdigest()


def read_migrations(folder: Path = MIGRATIONS) -> list[Migration]:
    """All migrations in `folder`, in order. MigrationError when a file is misnamed or two have one number."""
    found: dict[int, Migration] = {}
    for path in sorted(folder.glob("*.sql")):
        match = _NAME.fullmatch(path.name)
        if match is None:
            raise MigrationError(f"{path.name} is no migration's name: write NNNN_what_it_does.sql")
        number = int(match[1])
        if number in found:
            raise MigrationError(f"{path.name} and {found[number].name}.sql have the same number")
        found[number] = Migration(number, path.stem, path.read_text(encoding="utf-8"))
    return list(found.values())


async def migrate(url: str, *, folder: Path = MIGRATIONS) -> list[str]:
    """Apply what is missing, in order, and return the names applied.

    MigrationError when an applied file has changed since, when the database was migrated by a newer bonfire, or when a
    file fails (then nothing of that file is left behind, and the ones before it stay applied). Fault `unavailable` or
    DatabaseUnusable when it can't connect.
    """
    migrations = read_migrations(folder)
    # Statement timeouts are made for queries: a migration takes what it takes.
    with connecting():
        connection = await asyncpg.connect(url, server_settings={"statement_timeout": "0"})
    try:
        await connection.execute("select pg_advisory_lock($1)", _LOCK_KEY)
        return await _apply(connection, migrations)
    finally:
        # The lock is the session's, and goes with it.
        await connection.close()


async def _apply(connection: asyncpg.Connection, migrations: list[Migration]) -> list[str]:
    await connection.execute("set client_min_messages = warning")
    await connection.execute("create schema if not exists bonfire")
    await connection.execute(
        """
        create table if not exists bonfire.migration (
          number integer primary key,
          name text not null,
          checksum text not null,
          applied_at timestamptz not null default now()
        )
        """
    )
    applied = {row["number"]: row for row in await connection.fetch("select * from bonfire.migration")}
    known = {migration.number for migration in migrations}
    for number, row in sorted(applied.items()):
        if number not in known:
            raise MigrationError(f"migration {row['name']} was applied by a newer bonfire: run that one, or newer")
    for migration in migrations:
        row = applied.get(migration.number)
        if row is not None and row["checksum"] != migration.checksum:
            raise MigrationError(
                f"migration {migration.name} was changed after it was applied as {row['name']}: "
                "put the file back as it was, and write the change as a new migration"
            )
    missing = [migration for migration in migrations if migration.number not in applied]
    for migration in missing:
        await _apply_one(connection, migration)
    return [migration.name for migration in missing]


async def _apply_one(connection: asyncpg.Connection, migration: Migration) -> None:
    try:
        async with connection.transaction():
            await connection.execute(migration.sql)
            await connection.execute(
                "insert into bonfire.migration (number, name, checksum) values ($1, $2, $3)",
                migration.number,
                migration.name,
                migration.checksum,
            )
    except asyncpg.PostgresError as error:
        # Not str(error): its DETAIL may show a row.
        hint = f". {error.hint}" if error.hint else ""
        raise MigrationError(f"migration {migration.name} failed: {error.message}{hint}") from error
