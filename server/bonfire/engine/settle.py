"""How a read becomes exact: rows as of a snapshot -> a result that is true at a position.

The stream has passed the read's bound, so every commit that the snapshot saw has been delivered, and the history knows
which of those delivered it did not see. A keyed result takes these in and is true now. An app result is true up
to the first of them that touches it.
"""

from typing import Any

import msgspec
from msgspec import Raw, Struct

from bonfire.engine.history import Digest, History
from bonfire.engine.query import AppPlan, KeyedPlan, LiveQuery
from bonfire.engine.reads import rows_to_read
from bonfire.engine.view import Row, Window
from bonfire.engine.visibility import Sight


class Settled(Struct, frozen=True):
    """A result, what it shows, whether it goes on behind that, and the position from which on it is not true any more
    (None: it is true now)."""

    result: Window | list[Row]
    rows: list[Row]
    more: bool
    exact_until: int | None


def settle(
    query: LiveQuery, rows: list[Raw], visibility: Sight, unseen: list[Digest], history: History
) -> Settled | None:
    """The result in `rows`, which a snapshot with `visibility` gave; None when it must be read again."""
    match query.plan:
        case KeyedPlan():
            return _settle_keyed(query, query.plan, rows, unseen)
        case AppPlan():
            return _settle_app(query, query.plan, rows, visibility, unseen, history)


def _settle_keyed(query: LiveQuery, plan: KeyedPlan, rows: list[Raw], unseen: list[Digest]) -> Settled | None:
    assert query.ordering is not None
    key = (query.identity.tenant, plan.view, plan.key)
    if any(plan.view in digest.reset or key in digest.bulk for digest in unseen):
        return None
    result = Window(query.ordering, plan.limit, rows, complete=len(rows) < rows_to_read(plan))
    for digest in unseen:
        result.apply(digest.rows.get(key, ()))
    if result.short:
        return None
    return Settled(result, result.shown(), result.more, None)


def _settle_app(
    query: LiveQuery,
    plan: AppPlan,
    rows: list[Raw],
    visibility: Sight,
    unseen: list[Digest],
    history: History,
) -> Settled | None:
    tenant = query.identity.tenant
    missed = next((digest.position for digest in unseen if digest.touches(tenant, plan.dependencies)), None)
    if missed is not None:
        if history.saw_later(tenant, plan.dependencies, visibility, missed):
            # Then it is true nowhere.
            return None
        if query.dirty_since is not None and missed <= query.dirty_since:
            # It saw nothing of what made it necessary.
            return None
    identified = [(str(_identity.decode(row).id) if plan.identified else "", row) for row in rows]
    shown = identified[: plan.limit]
    return Settled(shown, shown, len(identified) > len(shown), missed)


class _Identified(Struct):
    id: Any


_identity = msgspec.json.Decoder(_Identified)
