"""An alarm for the earliest of many moments."""

import asyncio
from datetime import datetime, timedelta
from typing import Final

from ratus import times

_SECOND: Final = timedelta(seconds=1)
_CLOCK_CHECK: Final = 1.0  # seconds between looks at the clock, which may have been set


class Alarm:
    """Goes off once the earliest moment that it was set for has passed."""

    def __init__(self) -> None:
        self._earliest: datetime | None = None
        self._changed = asyncio.Event()

    def set(self, moment: datetime | None) -> None:
        """Go off after this moment too."""
        if moment is not None and (self._earliest is None or moment < self._earliest):
            self._earliest = moment
            self._changed.set()

    def clear(self) -> None:
        """Forget all moments."""
        self._earliest = None

    async def wait(self, seconds: float) -> None:
        """Wait until a moment has passed, at most so long."""
        loop = asyncio.get_running_loop()
        end = loop.time() + seconds
        while (left := end - loop.time()) > 0:
            self._changed.clear()
            if self._earliest is not None:
                until = (self._earliest - times.now()) / _SECOND
                if until < 0:
                    return
                left = min(left, until + 0.001)  # a moment has passed when the clock shows a later one
            try:
                async with asyncio.timeout(min(left, _CLOCK_CHECK)):
                    await self._changed.wait()
            except TimeoutError:
                continue
