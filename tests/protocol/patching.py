"""What a client does with the parts of a transition: the other half of what the server sends, for tests."""

from collections.abc import Sequence
from typing import Any

import msgspec

from bonfire_protocol.down import Patch, Snapshot


class Unfit(Exception):
    """The patch was made for other rows than these."""


def apply(rows: Sequence[Any], part: Patch | Snapshot) -> list[Any]:
    """`rows` (decoded JSON) after `part`; Unfit where a patch removes what is not there, or puts behind the end."""
    if isinstance(part, Snapshot):
        return [msgspec.json.decode(row) for row in part.rows]
    puts = [(put.at, msgspec.json.decode(put.row)) for put in part.put]
    touched = set(part.remove) | {_id(row) for _, row in puts}
    if missing := set(part.remove) - {_id(row) for row in rows}:
        raise Unfit(f"{len(missing)} rows to remove are not there")
    result = [row for row in rows if _id(row) not in touched]
    for at, row in puts:
        if at > len(result):
            raise Unfit("a row goes behind the end")
        result.insert(at, row)
    return result


def _id(row: Any) -> str:
    if not isinstance(row, dict) or not isinstance(row.get("id"), str):
        raise Unfit("a row has no id")
    identity: str = row["id"]
    return identity
