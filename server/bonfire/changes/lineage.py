"""Which history of which database a position belongs to.

A position is a place in one cluster's log, on one of its timelines: a standby that is promoted begins a new one, and
what the old primary still wrote behind that point lies at positions that the new one gives to other commits.
"""

from msgspec import Struct

from bonfire.changes.source import SourceKind

LINEAGE_SQL = """
select
  (select system_identifier::text from pg_control_system()) as system,
  ('x' || substr(pg_walfile_name(pg_current_wal_insert_lsn()), 1, 8))::bit(32)::int as timeline,
  (select oid::bigint from pg_database where datname = current_database()) as database
"""
"""What a primary says of itself. (A standby refuses: its timeline is asked of a replication connection.)"""


class Lineage(Struct, frozen=True):
    """`system`: the cluster's identifier, which its standbys and its restored backups share; `timeline` tells those
    apart; `database`: the database's oid."""

    system: str
    timeline: int
    database: int

    def stream(self, kind: SourceKind) -> str:
        """The name of a stream of positions: those of equal names compare, and name the same commits."""
        return f"{kind}-{self.system}-{self.timeline}-{self.database}"
