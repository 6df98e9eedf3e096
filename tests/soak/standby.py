"""A hot standby of the soak's Postgres, which follows it through a proxy, so that it can be made to lag."""

import asyncio
import os
import shutil
import signal
from pathlib import Path

import asyncpg

from bonfire.store.cluster import VERSION, Cluster
from soak.postgres import SoakPostgres
from soak.proxy import Proxy
from support.standby import Standby


class _Through(Cluster):
    """The primary, as it is reached over a proxy."""

    port = 0

    @property
    def url(self) -> str:
        return f"postgresql://postgres@127.0.0.1:{self.port}/postgres?sslmode=disable"


class SoakStandby:
    """A standby in a new folder below `folder`. `proxy` carries what it is sent."""

    def __init__(self, postgres: SoakPostgres, folder: Path) -> None:
        self.proxy = Proxy(str(postgres.socket))
        self._postgres = postgres
        self._folder = folder / "standby"
        self._cluster = Standby(self._folder / f"postgres-{VERSION}")

    @property
    def socket(self) -> Path:
        return self._cluster.socket_folder / ".s.PGSQL.5432"

    async def start(self) -> None:
        """Copy the primary, and follow it."""
        self._folder.mkdir(mode=0o711)
        primary = _Through(self._postgres.folder)
        primary.port = await self.proxy.start()
        await asyncio.to_thread(self._cluster.follow, primary)
        await self.start_again()

    async def start_again(self) -> None:
        await asyncio.to_thread(self._cluster.start)

    def kill(self) -> None:
        """kill -9 of its postmaster."""
        pid = self._cluster.pid()
        if pid is not None:
            os.kill(pid, signal.SIGKILL)

    async def stop(self) -> None:
        """For good, with what the primary keeps for it."""
        await asyncio.to_thread(self._cluster.stop)
        await self.proxy.stop()
        await asyncio.to_thread(shutil.rmtree, self._folder, ignore_errors=True)
        conn = await self._postgres.connect()
        try:
            async with asyncio.timeout(20):
                while True:
                    try:
                        await conn.execute("select pg_drop_replication_slot('standby')")
                        break
                    except asyncpg.ObjectInUseError:
                        await asyncio.sleep(0.1)
        finally:
            await conn.close()
