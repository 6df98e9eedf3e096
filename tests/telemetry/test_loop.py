"""A loop that does not turn is seen."""

import asyncio
import time

from bonfire.telemetry import loop
from bonfire.telemetry.loop import LoopWatch


async def test_what_holds_up_the_loop_is_measured() -> None:
    watch = LoopWatch()
    watch.start()
    # The watch's timer is set; then nothing turns until long after it is due.
    await asyncio.sleep(0)
    asyncio.get_running_loop().call_soon(time.sleep, loop.EVERY + 0.1)
    async with asyncio.timeout(5):
        while not watch.late.count:
            await asyncio.sleep(0)
    await watch.stop()
    assert watch.late.count == 1
    assert 0.09 < watch.late.total < 2.0
