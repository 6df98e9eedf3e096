"""Which account Postgres runs as: it refuses to be root, so under root it needs one of its own."""

import logging
import os
import pwd
import shutil
import stat
import subprocess
from pathlib import Path

from msgspec import Struct

_log = logging.getLogger(__name__)

ACCOUNT = "bonfire-postgres"


class Account(Struct, frozen=True):
    """A system account, by its numbers."""

    uid: int
    gid: int


def account_for_postgres() -> Account | None:
    """The account to switch to, made if need be; None when the caller is not root and may stay what it is.

    PermissionError when the system lets even root make no account.
    """
    if os.geteuid() != 0:
        return None
    try:
        entry = pwd.getpwnam(ACCOUNT)
    except KeyError:
        _make_account()
        entry = pwd.getpwnam(ACCOUNT)
    return Account(entry.pw_uid, entry.pw_gid)


def let_traverse(path: Path) -> None:
    """Let others pass through (not list) the folders above `path`, so that the account gets to what is its own."""
    for folder in path.parents:
        mode = stat.S_IMODE(folder.stat().st_mode)
        if not mode & stat.S_IXOTH:
            _log.warning("letting the account %s pass through %s (chmod o+x)", ACCOUNT, folder)
            folder.chmod(mode | stat.S_IXOTH)


def _make_account() -> None:
    if shutil.which("useradd"):
        command = ["useradd", "--system", "--no-create-home", "--shell", "/bin/false", ACCOUNT]
    elif shutil.which("adduser"):
        # BusyBox: -S a system account, -D no password, -H no home.
        command = ["adduser", "-S", "-D", "-H", ACCOUNT]
    else:
        command = []
    made = subprocess.run(command, check=False, capture_output=True, text=True) if command else None
    # Two processes may have tried at once: what counts is that the account is there.
    try:
        pwd.getpwnam(ACCOUNT)
    except KeyError:
        reason = made.stderr.strip() if made else "neither useradd nor adduser is here"
        raise PermissionError(
            f"Postgres does not run as root, and the account {ACCOUNT} could not be made ({reason}): "
            "run bonfire as an ordinary user, or set DATABASE_URL"
        ) from None
