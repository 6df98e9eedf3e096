"""What a client that comes back needs: the difference between what it held at a position and what is true now.

Only the ids of the rows that have changed since are known, not what the client's window showed. That is enough. The
other rows stand in the same order as they did, and the client holds the first of them: at least as many as its window
has rows, less those that have changed. Behind these, rows are put whether it has them or not; and what it has too many
of lies behind the end.
"""

from msgspec import Struct

from bonfire.engine.history import Dependencies
from bonfire.engine.query import AppPlan, KeyedPlan, LiveQuery
from bonfire.engine.retained import Retained
from bonfire_protocol.values import PutRow


class Difference(Struct, frozen=True):
    """See `bonfire_protocol.down.Resumed`."""

    remove: list[str]
    put: list[PutRow]
    length: int


def difference_since(query: LiveQuery, since: int, retained: Retained) -> Difference | None:
    """What takes a client that holds the result as of `since` to the query's result; None when that is not known, or is
    not much less than the whole result."""
    shown = query.shown()
    match query.plan:
        case AppPlan(dependencies=dependencies):
            return _untouched(query, dependencies, since, retained)
        case KeyedPlan(view=view, key=key, limit=limit):
            touched = retained.rows_since((query.identity.tenant, view, key), since)
    if touched is None:
        return None
    surely_held = limit - len(touched)
    put: list[PutRow] = []
    kept = 0
    for at, (row_id, row) in enumerate(shown):
        if row_id in touched:
            put.append(PutRow(at, row))
        else:
            if kept >= surely_held:
                put.append(PutRow(at, row))
            kept += 1
    if len(put) > max(8, len(shown) // 2):
        return None
    remains = {row_id for row_id, _ in shown}
    return Difference(sorted(touched - remains), put, len(shown))


def _untouched(query: LiveQuery, dependencies: Dependencies, since: int, retained: Retained) -> Difference | None:
    if retained.touched_since(query.identity.tenant, dependencies, since):
        return None
    return Difference([], [], len(query.shown()))
