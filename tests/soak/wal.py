"""The order of commits as the write-ahead log itself has it, read by Postgres' own `pg_waldump`.

No slot, no decoding plugin and no code of the product lies in between: whatever happens to these, the order is known.
"""

import os
import re
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from bonfire.store.cluster import programs
from bonfire_protocol.values import parse_position

_PAGE = 8192
_SEGMENT = 16 * 1024 * 1024
_SHORT_HEADER, _LONG_HEADER = 24, 40

_COMMIT = re.compile(
    r"^rmgr: Transaction\s+len \(rec/tot\):\s*\d+/\s*(\d+), tx:\s*(\d+), lsn: ([0-9A-F]+/[0-9A-F]+), .*"
    r"desc: COMMIT (\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d+) UTC"
)


class WalCommit(NamedTuple):
    """A commit record: the low 32 bits of its transaction's id, where the record ends (which is what the WAL's readers
    call the commit's position), and its time."""

    xid: int
    end: int
    at: float


def commits(archive: Path, start: str) -> list[WalCommit]:
    """The commits in the archived segments, from the one that holds position `start` on, in the order of the log."""
    finished = subprocess.run(
        [programs() / "pg_waldump", f"--path={archive}", "--rmgr=Transaction", f"--start={start}"],
        check=False,
        capture_output=True,
        text=True,
        env={**os.environ, "TZ": "UTC"},
    )
    # It ends with an error where the archive ends: there is no other end that it knows.
    found = [_parse(line) for line in finished.stdout.splitlines() if " desc: COMMIT " in line]
    if not found and "could not find" in finished.stderr and "after" not in finished.stderr:
        raise RuntimeError(f"pg_waldump read nothing: {finished.stderr.strip()}")
    return found


def record_end(start: int, length: int) -> int:
    """Where a record of `length` bytes at `start` ends: pages in between have headers, and records are aligned to 8."""
    at, left = start, length
    while left > (room := _PAGE - at % _PAGE):
        left -= room
        at += room
        at += _LONG_HEADER if at % _SEGMENT == 0 else _SHORT_HEADER
    return (at + left + 7) // 8 * 8


def _parse(line: str) -> WalCommit:
    found = _COMMIT.match(line)
    if found is None:
        raise ValueError(f"pg_waldump has another way to say COMMIT: {line[:200]}")
    length, xid, start, at = found.groups()
    moment = datetime.strptime(at, "%Y-%m-%d %H:%M:%S.%f").replace(tzinfo=UTC)
    return WalCommit(int(xid), record_end(parse_position(start), int(length)), moment.timestamp())
