"""The outbox is kept small by whoever reads changes, of either kind: readers of the WAL also end it when it has no
reader."""

import logging
from datetime import timedelta
from typing import Final

from bonfire.changes.side import Side
from bonfire.changes.source import SourceUnavailable
from bonfire.changes.timing import Timing

_log = logging.getLogger(__name__)

KEEP: Final = timedelta(minutes=10)
"""A reader by LISTEN that was away for less goes on exactly; after more it reads everything afresh."""

KEEP_BYTES: Final = 256 * 1024 * 1024
"""The most that is kept, whatever its age, as stored."""

UNUSED: Final = timedelta(days=1)
"""After so long without a reader by LISTEN the outbox is switched off, and costs the writers nothing any more."""


async def keep_house(side: Side, timing: Timing, *, reading: bool) -> None:
    """Clean at once and then again and again, until cancelled. `reading`: the caller reads the outbox."""
    while True:
        try:
            await side.tend_outbox(reading, KEEP, KEEP_BYTES, UNUSED)
        except SourceUnavailable as error:
            _log.warning("the outbox can't be cleaned: %s", error)
        await timing.sleep(timing.housekeeping)
