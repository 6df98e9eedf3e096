"""Reads on a replica of the primary, made comparable to a stream that comes from there too.

Nothing here makes them fresh: a replica may lag for as long as it likes. What a read shows is exact at its position;
how old that is, is the change stream's to say, which is judged by the primary.
"""

from collections.abc import Callable
from datetime import datetime
from typing import Protocol

import asyncpg

from bonfire.changes.looks import Look
from bonfire.changes.source import SourceUnavailable, bound_sql
from bonfire.engine.query import Plan
from bonfire.engine.visibility import Cut, Sight, Visibility
from bonfire.store.pool import Database
from bonfire.store.statements import fill
from bonfire.sync.reader import INSTALLED, Reader, Seen, Snapshot
from bonfire_protocol.faults import Fault, FaultCode

ATTEMPTS = 50
"""How many snapshots are taken for a read, because of each it may be unknown whether it sees a certain commit: in a
storm of as many commits as two processors can write, of every other one."""

_REPLAYED = "select coalesce(pg_last_wal_replay_lsn() - '0/0', 0)::bigint"

# What may show that the replay is in the middle of no record is looked at before where it is (`offset 0` keeps the
# planner from looking later), and all of it after the snapshot was taken, as all of a statement is.
_LOOK = """
select
  standby,
  replayed,
  paused or replayed = received as idle,
  pg_current_snapshot()::text as snapshot,
  case when not standby then (pg_current_wal_insert_lsn() - '0/0')::bigint end as bound
from (
  select *, (pg_last_wal_replay_lsn() - '0/0')::bigint as replayed
  from (
    select
      pg_is_in_recovery() as standby,
      case when pg_is_in_recovery() then pg_get_wal_replay_pause_state() = 'paused' end as paused,
      (pg_last_wal_receive_lsn() - '0/0')::bigint as received
    offset 0
  ) as earlier
  offset 0
) as look
"""


# Whether the replay waits for a delay to pass, as with recovery_min_apply_delay; where it is, looked at later. To be
# asked by a role that may see what others do: to another one nobody waits.
_DELAYED = """
select (pg_last_wal_replay_lsn() - '0/0')::bigint as replayed
from (
  select from pg_stat_activity where backend_type = 'startup' and wait_event = 'RecoveryApplyDelay'
  offset 0
) as waiting
"""


_LOOK_WITH_MODELS = fill("select *, {{installed}} from ({{look}}) as seen", installed=INSTALLED, look=_LOOK)


class _Unclear(Exception):
    """It is not known what the snapshot that was taken sees."""


class Cutter(Protocol):
    """The change stream of the same replica."""

    async def cut(self, look: Look) -> Cut | None: ...


class ReplicaReader(Reader):
    """Runs reads on `replica`. A replica that has been promoted is read as the primary that it is now."""

    def __init__(self, replica: Database, primary: Database, stream: Cutter, now: Callable[[], datetime]) -> None:
        super().__init__(replica, bound_sql("wal"), now, may_lag=True)
        self._primary = primary
        self._stream = stream

    async def visibility(self) -> Sight:
        async with self._database.owner() as conn:
            look = await conn.fetchrow(_LOOK)
        # What has been replayed is seen by each snapshot from now on.
        return Cut(look["replayed"]) if look["standby"] else Visibility.parse(look["snapshot"])

    async def bound(self) -> int:
        """A position at or behind that of every commit that the primary has."""
        async with self._primary.owner() as conn:
            return int(await conn.fetchval(f"select {bound_sql('wal')}"))

    async def end(self) -> int:
        return await self.bound()

    async def _together(self, tenant: str, wanted: list[tuple[Plan, int]], *, guarded: bool) -> Snapshot:
        for _ in range(ATTEMPTS):
            try:
                return await super()._together(tenant, wanted, guarded=guarded)
            except _Unclear:
                continue
            except (asyncpg.SerializationError, asyncpg.DeadlockDetectedError) as error:
                raise Fault(FaultCode.unavailable, "The replica gave the read up for what it had to replay.") from error
            except SourceUnavailable as error:
                raise Fault(FaultCode.unavailable, "The change stream was cut while this was read.") from error
        raise Fault(FaultCode.busy, "The replica has no moment for this read: too much commits at once.")

    async def _see(self, conn: asyncpg.Connection) -> Seen:
        # The transaction has no snapshot before its first query.
        async with self._database.owner() as beside:
            before = await beside.fetchval(_REPLAYED)
            look = await conn.fetchrow(_LOOK_WITH_MODELS)
            idle = look["idle"] or await beside.fetchval(_DELAYED) == look["replayed"]
        installed = frozenset(look["installed"])
        ids = Visibility.parse(look["snapshot"])
        if not look["standby"]:
            return Seen(ids, look["bound"], installed)
        cut = await self._stream.cut(Look(before, look["replayed"], idle, ids.xmin, ids.xmax))
        if cut is None:
            raise _Unclear
        return Seen(cut, cut.position, installed)
