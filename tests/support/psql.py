"""The real psql, as a user has it open beside bonfire."""

import subprocess

from bonfire.store.cluster import programs


def psql(url: str, script: str) -> str:
    """What psql prints for `script`, one row a line, columns parted by `|`. CalledProcessError at the first error."""
    finished = subprocess.run(
        [programs() / "psql", "--no-psqlrc", "--quiet", "--tuples-only", "--no-align", "--set=ON_ERROR_STOP=1", url],
        input=script,
        capture_output=True,
        check=False,
        text=True,
    )
    if finished.returncode != 0:
        raise PsqlError(finished.stderr)
    return finished.stdout.strip()


class PsqlError(Exception):
    """psql stopped at an error; the message is what it printed."""
