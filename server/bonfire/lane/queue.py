"""The queue of lane jobs in Postgres: claim, hold by lease, and end each job exactly once.

Writers append jobs inside their own transactions (`bonfire.after_touch`), so a job exists if and only if its write
has committed. A claim absorbs whatever waits for the same (tenant, index, patient); what is appended while a job runs
waits behind it. A job runs under a lease: whoever lost it (`LeaseLost`) has written nothing.

`claim`, `extend` and `expire` see all tenants and run on the owner's connection. Everything that ends a job runs inside
a transaction of the job's tenant, together with what the job writes.
"""

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Literal
from uuid import UUID

import asyncpg
from msgspec import Struct

_SQL = Path(__file__).with_name("sql")
_CLAIM = (_SQL / "claim.sql").read_text(encoding="utf-8")
_FAN_OUT = (_SQL / "fan_out.sql").read_text(encoding="utf-8")

DIED = "the worker was lost while it did this"


class LeaseLost(Exception):
    """Another worker holds this job by now, or its index was switched off. Nothing may be written for it."""


class Job(Struct, frozen=True):
    """A job under a lease. `patient` None: a sweep over everybody in `tenant`; `fanned`: its parts are queued, and
    it is looked at again to see whether they are done. `attempts` counts this one."""

    id: int
    tenant: str
    index: str
    patient: str | None
    attempts: int
    fanned: bool
    lease: UUID


class Parts(Struct, frozen=True):
    """How many parts of a sweep are still to be done, and how many have failed."""

    open: int
    failed: int


async def claim(
    conn: asyncpg.Connection, indexes: Sequence[str], *, now: datetime, lease: UUID, until: datetime
) -> Job | None:
    """Take the next job of `indexes` that may run at `now`, and hold it `until` then. None: there is none."""
    try:
        row = await conn.fetchrow(_CLAIM, indexes, now, lease, until)
    except (asyncpg.UniqueViolationError, asyncpg.DeadlockDetectedError):
        # Two claims saw different jobs of one patient at the same instant; the other one has it.
        return None
    return None if row is None else Job(**row, lease=lease)


async def extend(conn: asyncpg.Connection, leases: Sequence[UUID], *, until: datetime) -> None:
    """A sign of life for the jobs held under `leases`."""
    await conn.execute("update bonfire.job set leased_until = $2 where lease = any($1)", leases, until)


async def expire(conn: asyncpg.Connection, *, now: datetime) -> int:
    """Put the jobs of lost workers back; the attempt counts. Returns how many there were."""
    rows = await conn.fetch(
        """update bonfire.job set state = 'waiting', lease = null, leased_until = null, run_at = $1, reason = $2
           where state = 'running' and leased_until <= $1 returning id""",
        now,
        DIED,
    )
    return len(rows)


async def finish(conn: asyncpg.Connection, job: Job) -> None:
    """The job is done, if this transaction commits: the mutations that waited for it hear so.

    Call it first in the transaction that writes the job's result: from then on nobody else can take the job.
    Raises LeaseLost.
    """
    mutations = await conn.fetchval(
        "delete from bonfire.job where id = $1 and lease = $2 returning mutations", job.id, job.lease
    )
    _held(mutations)
    await tell(conn, job.tenant, job.index, mutations, "fresh", None)


async def fail(conn: asyncpg.Connection, job: Job, *, reason: str) -> None:
    """The job has failed for good: the mutations that waited for it hear so. The next touch of its patient starts
    afresh. `reason` holds no patient's data. Raises LeaseLost."""
    mutations = await conn.fetchval(
        """update bonfire.job set state = 'failed', lease = null, leased_until = null, reason = $3
           where id = $1 and lease = $2 returning mutations""",
        job.id,
        job.lease,
        reason,
    )
    _held(mutations)
    await tell(conn, job.tenant, job.index, mutations, "failed", reason)


async def retry(conn: asyncpg.Connection, job: Job, *, run_at: datetime, reason: str) -> None:
    """Try the job again, at `run_at` at the earliest. `reason` holds no patient's data. Raises LeaseLost."""
    _held(
        await conn.fetchval(
            """update bonfire.job set state = 'waiting', lease = null, leased_until = null, run_at = $3, reason = $4
               where id = $1 and lease = $2 returning id""",
            job.id,
            job.lease,
            run_at,
            reason,
        )
    )


async def release(conn: asyncpg.Connection, job: Job, *, run_at: datetime) -> None:
    """Give the job back as if it had not been tried: the worker stops, lost its database, or waits for a sweep's
    parts. Raises LeaseLost."""
    _held(
        await conn.fetchval(
            """update bonfire.job
               set state = 'waiting', lease = null, leased_until = null, run_at = $3, attempts = attempts - 1
               where id = $1 and lease = $2 returning id""",
            job.id,
            job.lease,
            run_at,
        )
    )


async def fan_out(
    conn: asyncpg.Connection, sweep: Job, patients: Sequence[str], *, now: datetime, look_again: datetime
) -> None:
    """Queue a job for each of `patients`, and look at the sweep again at `look_again`. Raises LeaseLost."""
    _held(await conn.fetchval(_FAN_OUT, patients, sweep.id, sweep.lease, look_again, now))


async def parts(conn: asyncpg.Connection, sweep: Job) -> Parts:
    """What has become of the jobs that `sweep` was fanned out into."""
    row = await conn.fetchrow(
        """select count(*) filter (where state <> 'failed') as open, count(*) filter (where state = 'failed') as failed
           from bonfire.job where sweep = $1""",
        sweep.id,
    )
    return Parts(**row)


async def drop(conn: asyncpg.Connection, index: str) -> None:
    """The index is off: forget its jobs, of all tenants, and tell the mutations that waited. `conn`: the owner's."""
    rows = await conn.fetch("delete from bonfire.job where index = $1 returning tenant, state, mutations", index)
    for row in rows:
        if row["state"] != "failed":
            await tell(conn, row["tenant"], index, row["mutations"], "off", None)


async def progress(conn: asyncpg.Connection, mutation: str) -> dict[str, Literal["pending", "failed"]]:
    """How far the indexes are with `mutation`, for who asks afterwards: an index that is not named has caught up."""
    rows = await conn.fetch(
        """select index, case state when 'failed' then 'failed' else 'pending' end as state from bonfire.job
           where tenant = bonfire.current_tenant() and $1 = any (mutations)
           order by 2""",
        mutation,
    )
    # "failed" comes before "pending" here, so that what still waits outweighs what has failed.
    return {row["index"]: row["state"] for row in rows}


async def tell(
    conn: asyncpg.Connection,
    tenant: str,
    index: str,
    mutations: Sequence[str],
    state: Literal["fresh", "failed", "off"],
    reason: str | None,
) -> None:
    """Tell the live sockets what became of `mutations` in `index`, if this transaction commits."""
    await conn.execute(
        """select bonfire.emit(json_build_object('tenant', $1::text, 'index', json_strip_nulls(json_build_object(
             'mutation', m, 'index', $2::text, 'state', $4::text, 'reason', $5::text)))::text)
           from unnest($3::text[]) m""",
        tenant,
        index,
        mutations,
        state,
        reason,
    )


def _held(value: object) -> None:
    if value is None:
        raise LeaseLost
