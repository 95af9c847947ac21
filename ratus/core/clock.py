"""The clock may be set, or drift, while timers wait for a time that it was to show."""

import asyncio
from collections.abc import Callable
from typing import Final

from ratus import times

_CHECK: Final = 1.0  # seconds between looks
_DRIFT: Final = 0.01  # seconds between clock and timers that matter


async def watch_clock(on_set: Callable[[], None]) -> None:
    """Tell whenever the clock shows another time than the timers of the loop expect; until cancelled."""
    ahead = _ahead()
    while True:
        await asyncio.sleep(_CHECK)
        now_ahead = _ahead()
        if abs(now_ahead - ahead) > _DRIFT:
            ahead = now_ahead
            on_set()


def _ahead() -> float:
    """Seconds that the clock is ahead of the timers."""
    return times.now().timestamp() - asyncio.get_running_loop().time()
