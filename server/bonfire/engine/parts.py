"""Large frames in parts bounded by bytes: the first one, and patches that put the rest.

The client applies nothing before the transition's end, so the parts are one step for it. Between them the frames of
other things can leave, and no one frame needs much memory on either side.
"""

from collections.abc import Mapping, Sequence

from msgspec import Raw

from bonfire.engine.frames import SharedFrame
from bonfire_protocol.down import Patch, Resumed, Snapshot, Subscribed
from bonfire_protocol.values import PutRow

PART_BYTES = 128 * 1024
"""Bytes of rows in one frame; a single row may be larger."""


def whole_in_parts(frame: Subscribed | Snapshot, part_bytes: int) -> list[SharedFrame]:
    """Frames that say the same as this one. Its rows must have ids, because patches name them."""
    rows = frame.rows
    cut = _room(rows, part_bytes)
    if cut == len(rows):
        return [SharedFrame(frame)]
    first: Subscribed | Snapshot
    if isinstance(frame, Snapshot):
        first = Snapshot(frame.query, rows[:cut], frame.reason, frame.more)
    else:
        first = Subscribed(frame.id, frame.query, frame.position, rows[:cut], frame.shape, frame.more)
    rest = [PutRow(at, row) for at, row in enumerate(rows[cut:], start=cut)]
    return [SharedFrame(first), *_puts(frame.query, rest, frame.more, part_bytes)]


def patch_in_parts(frame: Patch, moved: Mapping[str, int], part_bytes: int) -> list[SharedFrame]:
    """Frames that say the same as this one. `moved`: the rows that it puts and the client holds already, with their new
    indexes. Those that a later part puts leave their old places in the first, so that each index is that of the new
    order."""
    cut = _room([one.row for one in frame.put], part_bytes)
    if cut == len(frame.put):
        return [SharedFrame(frame)]
    first, rest = frame.put[:cut], frame.put[cut:]
    later = [row_id for row_id, at in moved.items() if at >= rest[0].at]
    return [
        SharedFrame(Patch(frame.query, [*frame.remove, *later], first, frame.more)),
        *_puts(frame.query, rest, frame.more, part_bytes),
    ]


def resumed_in_parts(frame: Resumed, ids: Sequence[str], part_bytes: int) -> list[SharedFrame]:
    """Frames that say the same as this one. `ids`: those of the result's rows, in order. What a later part puts is
    taken out in the first, which leaves room for it, so that what stands behind the result is cut off there."""
    cut = _room([one.row for one in frame.put], part_bytes)
    if cut == len(frame.put):
        return [SharedFrame(frame)]
    first, rest = frame.put[:cut], frame.put[cut:]
    remove = [*frame.remove, *(ids[one.at] for one in rest)]
    length = frame.length - len(rest)
    return [
        SharedFrame(Resumed(frame.id, frame.query, frame.position, length, remove, first, frame.more)),
        *_puts(frame.query, rest, frame.more, part_bytes),
    ]


def _puts(number: int, rest: list[PutRow], more: bool, part_bytes: int) -> list[SharedFrame]:
    frames = []
    while rest:
        cut = _room([one.row for one in rest], part_bytes)
        frames.append(SharedFrame(Patch(number, [], rest[:cut], more)))
        rest = rest[cut:]
    return frames


def _room(rows: Sequence[Raw], part_bytes: int) -> int:
    """How many of the rows one frame takes: one at least."""
    size = 0
    for count, row in enumerate(rows):
        size += len(row)
        if size > part_bytes and count:
            return count
    return len(rows)
