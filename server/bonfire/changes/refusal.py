"""Why the database refuses to be read from, and what to do about it: recognised by SQLSTATE."""

from typing import Final

import asyncpg
import psycopg

from bonfire.changes.source import SourceUnavailable

# What asyncpg raises when the database is not there, does not answer or says no. InternalClientError is what it
# raises where a connection is lost between two steps of its own.
DATABASE_ERRORS: Final = (
    OSError,
    TimeoutError,
    asyncpg.PostgresError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
)

# Classes of SQLSTATE that pass by themselves: connection, rollback, resources, operator intervention, system.
_PASSING = ("08", "40", "53", "57", "58")


def refusal_of_connection(error: Exception) -> SourceUnavailable:
    """An ordinary connection could not be made."""
    if isinstance(error, asyncpg.PostgresError):
        return SourceUnavailable(f"the database refused the connection: {_say(error)}", retry=_passes(error.sqlstate))
    # OSError, TimeoutError, InterfaceError: their texts name the host at most.
    return SourceUnavailable(f"the database can't be reached: {str(error) or type(error).__name__}", retry=True)


def refusal_of_question(error: Exception) -> SourceUnavailable:
    """An ordinary connection broke in the middle of a question, or the question was refused."""
    if isinstance(error, asyncpg.PostgresError):
        return SourceUnavailable(f"the database refused to answer: {_say(error)}", retry=_passes(error.sqlstate))
    return SourceUnavailable(f"the database did not answer: {str(error) or type(error).__name__}", retry=True)


def refusal_of_replication(error: asyncpg.PostgresError) -> SourceUnavailable:
    """The database admits ordinary connections, but no replication connection."""
    match error.sqlstate:
        case "42501":
            return SourceUnavailable(
                "the connecting role may not read the WAL: let an administrator run ALTER ROLE ... REPLICATION "
                "(on Amazon RDS: GRANT rds_replication TO ...)",
                retry=False,
            )
        case "53300":
            return SourceUnavailable(
                f"the database has no connection left for reading the WAL: raise max_wal_senders ({_say(error)})",
                retry=True,
            )
        case "28000" | "28P01":
            return SourceUnavailable(
                f"the database's pg_hba.conf lets this role connect, but not for replication ({_say(error)})",
                retry=False,
            )
        case "08P01":
            return SourceUnavailable(
                "what answers at the URL does not know replication: a pooler stands in front of the database; "
                f"connect to the database itself ({_say(error)})",
                retry=False,
            )
        case _:
            return SourceUnavailable(
                f"the database refused a replication connection: {_say(error)}", retry=_passes(error.sqlstate)
            )


def refusal_of_slot(error: psycopg.Error) -> SourceUnavailable:
    """A replication connection is there, but no slot or no stream."""
    match error.sqlstate:
        case "53400":
            return SourceUnavailable(
                "all replication slots of the database are in use: raise max_replication_slots, or drop slots that "
                "nobody reads (see pg_replication_slots)",
                retry=True,
            )
        case "55000":
            return SourceUnavailable(
                f"the database does not allow logical decoding now: {error.diag.message_primary}", retry=False
            )
        case None:
            return SourceUnavailable("the connection was lost while the change stream was being set up", retry=True)
        case sqlstate:
            return SourceUnavailable(
                f"the change stream can't be set up: {error.diag.message_primary} ({sqlstate})", retry=_passes(sqlstate)
            )


def _passes(sqlstate: str | None) -> bool:
    return sqlstate is None or sqlstate[:2] in _PASSING


def _say(error: asyncpg.PostgresError) -> str:
    return f"{error} ({error.sqlstate})"
