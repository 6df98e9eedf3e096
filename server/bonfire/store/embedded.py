"""The Postgres that comes with bonfire: found, made, started, shared and stopped.

Several processes may use one data folder: the server, `bonfire url`, a second server. Each user holds a shared lock
on a file for as long as it lives; the kernel lets go of it even after kill -9, so there is no list to go stale. The
last user stops it; a Postgres whose last user was killed keeps running, and the next `start` takes it over.
"""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bonfire.store.cluster import VERSION, Cluster, ClusterError


class EmbeddedPostgres:
    """One process' hold on the embedded Postgres of a data folder."""

    def __init__(self) -> None:
        self._folder: Path | None = None
        self._cluster: Cluster | None = None
        self._hold: int | None = None
        self._keep = False

    def start(self, data_dir: Path, *, keep: bool = False) -> str:
        """Make sure that Postgres serves `data_dir` (made if need be), hold it, and return its URL.

        `keep`: this hold's `stop` leaves it running (`bonfire url`); and if this call has to start it, so does
        everybody else's, until it is started from a standstill without `keep`. ClusterError says why it did not start.
        """
        if self._hold is not None:
            raise ClusterError("this process holds an embedded Postgres already")
        folder = data_dir.expanduser().resolve()
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ClusterError(
                f"BONFIRE_DATA_DIR: the folder {folder} can't be made ({error.strerror}): choose another"
            ) from error
        _refuse_other_versions(folder)
        cluster = Cluster(folder / f"postgres-{VERSION}")
        with _exclusive(folder):
            if not cluster.exists():
                cluster.create()
            if cluster.pid() is None:
                if keep:
                    _kept(folder).touch()
                else:
                    _kept(folder).unlink(missing_ok=True)
            cluster.start()
            hold = os.open(_users(folder), os.O_RDWR | os.O_CREAT, 0o600)
            fcntl.flock(hold, fcntl.LOCK_SH)
        self._folder, self._cluster, self._hold, self._keep = folder, cluster, hold, keep
        return cluster.url

    def stop(self) -> None:
        """Let go; and stop Postgres, cleanly, if nobody else holds it and nobody asked that it be kept."""
        if self._folder is None or self._cluster is None or self._hold is None:
            return
        with _exclusive(self._folder):
            os.close(self._hold)
            self._hold = None
            if not self._keep and not _kept(self._folder).exists() and _nobody_holds(self._folder):
                self._cluster.stop()


def _users(folder: Path) -> Path:
    return folder / "postgres.users"


def _kept(folder: Path) -> Path:
    return folder / "postgres.keep"


@contextmanager
def _exclusive(folder: Path) -> Iterator[None]:
    """Starting and stopping, one process at a time."""
    with (folder / "postgres.lock").open("ab") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _nobody_holds(folder: Path) -> bool:
    with _users(folder).open("ab") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True


def _refuse_other_versions(folder: Path) -> None:
    found = {path.parent.name for path in folder.glob("postgres-*/PG_VERSION") if path.parent.suffix != ".new"}
    if found and f"postgres-{VERSION}" not in found:
        # A fresh, empty database in the place of the user's data would look like the loss of it.
        raise ClusterError(
            f"{folder} holds {', '.join(sorted(found))}, and this bonfire brings Postgres {VERSION}: "
            "dump the data with the Postgres that made it, and restore it into a new folder"
        )
