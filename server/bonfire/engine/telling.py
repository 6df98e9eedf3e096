"""The frames that tell clients of a query's result: all of it, what changed of it, or what one of them missed.

What is the same for several is one list of frames: then it is encoded once for all of them.
"""

from bonfire.engine.frames import SharedFrame
from bonfire.engine.parts import patch_in_parts, resumed_in_parts, whole_in_parts
from bonfire.engine.query import LiveQuery
from bonfire.engine.resume import difference_since
from bonfire.engine.retained import Retained
from bonfire.engine.session import Session
from bonfire.engine.settle import Settled
from bonfire.engine.view import Change, difference
from bonfire_protocol.down import Patch, Resumed, Snapshot, Subscribed
from bonfire_protocol.values import format_position

KEPT_SNAPSHOTS = 8
"""Encoded results that a live query keeps, each for the subscriptions of one name."""


class Telling:
    """`part_bytes` bounds the rows in one frame."""

    def __init__(self, retained: Retained, part_bytes: int) -> None:
        self.resumes = 0
        self._retained = retained
        self._part_bytes = part_bytes

    def subscribed(self, query: LiveQuery, session: Session, subscription: str, position: int) -> list[SharedFrame]:
        """What makes this subscription live: what the client has missed, where it holds an older result, or all."""
        since = session.since if subscription in session.resuming else None
        session.resuming.discard(subscription)
        # Clients name subscriptions alike ("1", "2"), and come back from one position after a cut.
        key = (subscription, since)
        wire_position = format_position(position)
        frames = query.snapshot_parts.get(key)
        if frames is not None and getattr(frames[0].frame, "position", None) == wire_position:
            return frames
        missed = None if since is None else difference_since(query, since, self._retained)
        if missed is None:
            rows = [row for _, row in query.shown()]
            frame = Subscribed(subscription, query.number, wire_position, rows, query.shape, query.more)
            frames = self._whole(query, frame)
        else:
            self.resumes += 1
            resumed = Resumed(
                subscription, query.number, wire_position, missed.length, missed.remove, missed.put, query.more
            )
            frames = resumed_in_parts(resumed, [row_id for row_id, _ in query.shown()], self._part_bytes)
        _keep(query, key, frames)
        return frames

    def conflated(self, query: LiveQuery) -> list[SharedFrame]:
        """The query's result for those who have missed what led to it."""
        frames = query.snapshot_parts.get((None, None))
        if frames is None:
            rows = [row for _, row in query.shown()]
            frames = self._whole(query, Snapshot(query.number, rows, "conflated", query.more))
            _keep(query, (None, None), frames)
        return frames

    def repaired(self, query: LiveQuery) -> list[SharedFrame]:
        """The query's result for those who were sent a wrong one."""
        return self._whole(query, Snapshot(query.number, [row for _, row in query.shown()], "repaired", query.more))

    def changed(self, query: LiveQuery, change: Change) -> list[SharedFrame]:
        """What a commit has changed of what the query's window shows."""
        return patch_in_parts(
            Patch(query.number, change.remove, change.put, query.more), change.moved, self._part_bytes
        )

    def read_again(self, query: LiveQuery, settled: Settled) -> list[SharedFrame]:
        """What takes the viewers from the query's result to a newer one; nothing when they are the same."""
        if not differ(query, settled):
            return []
        change = difference(query.shown(), settled.rows) if query.identified else None
        if change is None:
            rows = [row for _, row in settled.rows]
            return self._whole(query, Snapshot(query.number, rows, "changed", settled.more))
        patch = Patch(query.number, change.remove, change.put, settled.more)
        return patch_in_parts(patch, change.moved, self._part_bytes)

    def _whole(self, query: LiveQuery, frame: Subscribed | Snapshot) -> list[SharedFrame]:
        return whole_in_parts(frame, self._part_bytes) if query.identified else [SharedFrame(frame)]


def differ(query: LiveQuery, settled: Settled) -> bool:
    """Whether what the query shows is not what was read."""
    if settled.more != query.more:
        return True
    return [bytes(row) for _, row in query.shown()] != [bytes(row) for _, row in settled.rows]


def _keep(query: LiveQuery, key: tuple[str | None, int | None], frames: list[SharedFrame]) -> None:
    if len(query.snapshot_parts) >= KEPT_SNAPSHOTS:
        query.snapshot_parts.clear()
    query.snapshot_parts[key] = frames
