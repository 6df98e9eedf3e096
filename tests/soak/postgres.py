"""The soak's own Postgres: made, killed and started at will, with its WAL archived and its changes written down."""

import asyncio
import os
import shutil
import signal
import subprocess
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import asyncpg

from bonfire.store.cluster import VERSION, Cluster, ClusterError
from bonfire.store.unprivileged import account_for_postgres, let_traverse
from bonfire_protocol.values import parse_position
from soak.account import change_of, told
from soak.checker import Done
from soak.history import History
from soak.population import BULK, PATIENTS, TENANTS
from soak.queries import NOTES, SLIPS, Change
from soak.rows import Key
from soak.wal import commits

_AUDIT = Path(__file__).with_name("audit.sql").read_text(encoding="utf-8")
_WAL_ROOM = "1g"

_RECORDS = """
select {source!r} as source, tenant, id, txid as version, ts as at, resource from public.{table}
"""


class SoakPostgres:
    """A Postgres in `folder`. Its methods block; `history` is for a quiet moment."""

    def __init__(self, folder: Path) -> None:
        self._cluster = Cluster(folder / f"postgres-{VERSION}")
        self._archive = folder / "archive"
        self._wal_folder = folder / "wal"
        self._mounted = False
        self._start = ""

    @property
    def url(self) -> str:
        return self._cluster.url

    @property
    def folder(self) -> Path:
        return self._cluster.folder

    @property
    def socket(self) -> Path:
        return self._cluster.socket_folder / ".s.PGSQL.5432"

    @property
    def log(self) -> Path:
        return self._cluster.log

    def create(self, *, small_disk: bool) -> str | None:
        """Make and start it. `small_disk`: its WAL gets a file system of its own, which can be filled; returns why not,
        where it can't."""
        self._cluster.create()
        self._hand_over(self._archive)
        with (self._cluster.folder / "postgresql.auto.conf").open("a") as file:
            for name, value in _SETTINGS.items():
                file.write(f"{name} = '{value}'\n")
            target = self._archive
            file.write(f"archive_command = 'cp %p {target}/%f.part && mv {target}/%f.part {target}/%f'\n")
        refusal = self._mount() if small_disk else None
        self._cluster.start()
        return refusal

    def start(self) -> None:
        try:
            self._cluster.start()
        except ClusterError:
            # A backend that hangs in a fault of ours has outlived its postmaster: what an operator would do.
            if self._cluster.pid() is not None:
                raise
            for process in Path("/proc").iterdir():
                if process.name.isdecimal():
                    with suppress(FileNotFoundError):
                        self.kill_backend(int(process.name))
            self._cluster.start()

    def stop(self) -> None:
        self._cluster.stop()
        if self._mounted:
            subprocess.run(["umount", "--lazy", str(self._wal_folder)], check=False)

    def kill(self) -> None:
        """kill -9 of the postmaster; its children follow."""
        pid = self._cluster.pid()
        if pid is not None:
            os.kill(pid, signal.SIGKILL)

    def kill_backend(self, pid: int) -> None:
        """kill -9 of one of its processes."""
        if Path(f"/proc/{pid}").exists() and os.path.samefile(f"/proc/{pid}/cwd", self._cluster.folder):
            os.kill(pid, signal.SIGKILL)

    def fill_disk(self) -> bool:
        """Leave the WAL no room; false where it has no file system of its own."""
        if not self._mounted:
            return False
        room = shutil.disk_usage(self._wal_folder).free
        with (self._wal_folder / "ballast").open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, max(1, room))
        return True

    def free_disk(self) -> None:
        (self._wal_folder / "ballast").unlink(missing_ok=True)

    async def connect(self) -> asyncpg.Connection:
        return await asyncpg.connect(self.url, timeout=10)

    async def prepare(self) -> None:
        """Write down from now on what changes. The schema must be there."""
        conn = await self.connect()
        try:
            await conn.execute(_AUDIT)
            for tenant in TENANTS:
                for patient in (*PATIENTS, BULK):
                    await conn.execute(
                        "insert into patient (tenant, id, resource) values ($1, $2, '{}')", tenant, patient
                    )
        finally:
            await conn.close()

    async def begin(self) -> list[Change]:
        """A quiet moment: the records as they are, before what `history` will tell."""
        conn = await self.connect()
        try:
            await conn.execute("truncate soak.audit")
            self._start = await conn.fetchval("select pg_current_wal_insert_lsn()::text")
            before = []
            for source in (SLIPS, NOTES):
                sql = _RECORDS.format(source=source, table=source.lower())
                before += [change_of(row) for row in await conn.fetch(sql)]
            for segment in self._archive.iterdir():
                if segment.name < (await conn.fetchval("select pg_walfile_name($1::text::pg_lsn)", self._start)):
                    segment.unlink()
        finally:
            await conn.close()
        return before

    async def history(
        self, before: Sequence[Change], keys: Sequence[Key]
    ) -> tuple[History, dict[tuple[str, str], list[Done]]]:
        """Another quiet moment: all that has happened since `begin`."""
        conn = await self.connect()
        try:
            rows = await conn.fetch(
                "select (xid::text::bigint & 4294967295) as xid, source, tenant, id, version, at, resource"
                " from soak.audit order by seq"
            )
            await self._archive_all(conn)
        finally:
            await conn.close()
        found = await asyncio.to_thread(commits, self._archive, self._start)
        return told(before, rows, found, parse_position(self._start), keys)

    async def position(self) -> int:
        """Behind all that has committed so far."""
        conn = await self.connect()
        try:
            return parse_position(await conn.fetchval("select pg_current_wal_insert_lsn()::text"))
        finally:
            await conn.close()

    async def _archive_all(self, conn: asyncpg.Connection) -> None:
        last = await conn.fetchval("select pg_walfile_name(pg_switch_wal())")
        async with asyncio.timeout(60):
            while not (self._archive / last).exists():
                await asyncio.sleep(0.05)

    def _hand_over(self, folder: Path) -> None:
        folder.mkdir(exist_ok=True)
        account = account_for_postgres()
        if account is not None:
            os.chown(folder, account.uid, account.gid)
            let_traverse(folder)

    def _mount(self) -> str | None:
        self._wal_folder.mkdir()
        command = ["mount", "-t", "tmpfs", "-o", f"size={_WAL_ROOM}", "tmpfs", str(self._wal_folder)]
        done = subprocess.run(command, check=False, capture_output=True, text=True)
        if done.returncode != 0:
            return f"no file system can be mounted here: {done.stderr.strip()}"
        self._mounted = True
        self._hand_over(self._wal_folder)
        inside = self._cluster.folder / "pg_wal"
        moved = self._wal_folder / "pg_wal"
        shutil.copytree(inside, moved)
        shutil.rmtree(inside)
        inside.symlink_to(moved)
        for path in (moved, *moved.rglob("*")):
            self._own(path)
        return None

    def _own(self, path: Path) -> None:
        account = account_for_postgres()
        if account is not None:
            os.chown(path, account.uid, account.gid)


_SETTINGS = {
    "archive_mode": "on",
    # Processes are killed here, never the machine: what the kernel has got is safe enough.
    "fsync": "off",
    "max_connections": "80",
    "max_wal_size": "96MB",
    "min_wal_size": "48MB",
    "checkpoint_timeout": "30s",
    "restart_after_crash": "on",
    "log_min_messages": "warning",
}
