"""A standby of a test's Postgres, made as an operator makes one."""

import asyncio
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import asyncpg

from bonfire.store.cluster import Cluster
from bonfire.store.unprivileged import account_for_postgres


class Standby(Cluster):
    """A data folder copied from `primary`, which it follows over a physical slot of its own, with feedback."""

    def follow(self, primary: Cluster) -> None:
        self.folder.mkdir(mode=0o700)
        account = account_for_postgres()
        if account is not None:
            os.chown(self.folder, account.uid, account.gid)
        self._run(
            "pg_basebackup",
            f"--pgdata={self.folder}",
            f"--dbname={primary.url}",
            "--checkpoint=fast",
            "--wal-method=stream",
            "--write-recovery-conf",
            "--create-slot",
            "--slot=standby",
        )
        with (self.folder / "postgresql.auto.conf").open("a") as file:
            file.write("hot_standby_feedback = on\nwal_receiver_status_interval = 1\n")

    async def until_replayed(self, position: int) -> None:
        """Until the standby shows what the primary has up to there."""
        connection = await asyncpg.connect(self.url)
        try:
            async with asyncio.timeout(20):
                while await connection.fetchval("select pg_last_wal_replay_lsn() - '0/0'::pg_lsn") < position:
                    await asyncio.sleep(0.005)
        finally:
            await connection.close()


@contextmanager
def standby_of(primary: Cluster, folder: Path) -> Iterator[Standby]:
    """A running standby, in `folder`, which must not be there yet."""
    standby = Standby(folder)
    standby.follow(primary)
    try:
        standby.start()
        yield standby
    finally:
        standby.stop()


async def promote(standby: Cluster) -> None:
    """Make a primary of it, and wait until it is one."""
    connection = await asyncpg.connect(standby.url)
    try:
        assert await connection.fetchval("select pg_promote(true, 30)")
    finally:
        await connection.close()
