"""Brings two accounts of one run together: what each transaction changed, and where in the order it committed."""

import json
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from soak.checker import Done
from soak.history import Committed, History
from soak.queries import Change
from soak.rows import Key
from soak.wal import WalCommit


def change_of(row: Any) -> Change:
    """A record's change, from a row of the audit or of its own table."""
    resource = row["resource"]
    return Change(
        row["source"],
        row["tenant"],
        row["id"],
        row["version"],
        row["at"],
        None if resource is None else json.loads(resource),
    )


def told(
    before: Sequence[Change],
    rows: Sequence[Any],
    found: Sequence[WalCommit],
    start: int,
    keys: Sequence[Key],
) -> tuple[History, dict[tuple[str, str], list[Done]]]:
    """The history after `start`, and what became of each mutation: from the audit's `rows`, in their order, and the
    commits `found` in the WAL. RuntimeError when the WAL lacks one: then the soak itself is wrong."""
    places = {commit.xid: commit for commit in found if commit.end > start}
    changes: dict[int, list[Change]] = defaultdict(list)
    mutations: dict[int, list[tuple[str, str]]] = defaultdict(list)
    outbox: dict[int, int] = {}
    seen: dict[int, None] = {}
    for row in rows:
        seen[row["xid"]] = None
        match row["source"]:
            case "mutation":
                mutations[row["xid"]].append((row["tenant"], row["id"]))
            case "outbox":
                outbox[row["xid"]] = int(row["id"])
            case _:
                changes[row["xid"]].append(change_of(row))
    if lacking := [xid for xid in seen if xid not in places]:
        raise RuntimeError(f"the WAL has no commit of transactions {lacking[:5]}: the soak's own account is wrong")
    history = History(
        before,
        [
            Committed(xid, places[xid].end, outbox.get(xid), places[xid].at, changes[xid], mutations[xid])
            for xid in seen
        ],
        keys,
    )
    return history, _done(history)


def _done(history: History) -> dict[tuple[str, str], list[Done]]:
    """Which commits claimed each mutation's id, and where the records are that bear it as their title."""
    writes: dict[tuple[str, str], list[int]] = defaultdict(list)
    met: set[tuple[str, str, str]] = set()
    for number, commit in enumerate(history.commits):
        for change in commit.changes:
            title = (change.resource or {}).get("description")
            if title is not None and (change.tenant, change.id, title) not in met:
                # Later versions that still bear the title were written by others.
                met.add((change.tenant, change.id, title))
                writes[change.tenant, title].append(number)
    done: dict[tuple[str, str], list[Done]] = defaultdict(list)
    for number, commit in enumerate(history.commits):
        for claimed in commit.mutations:
            done[claimed].append(Done(number, tuple(writes[claimed])))
    return done
