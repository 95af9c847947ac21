"""The background jobs: recovery of missed deadlines, and expiry of completed tasks."""

import asyncio
import logging
import random
from datetime import timedelta
from typing import Final

from ratus.config import ChoreSettings
from ratus.core.service import Service
from ratus.errors import RatusError

_log: Final = logging.getLogger(__name__)
_SECOND: Final = timedelta(seconds=1)
_FIRST_PAUSE: Final = 0.1  # seconds, after the storage failed
_LONGEST_PAUSE: Final = 2.0


async def run_chores(service: Service, settings: ChoreSettings) -> None:
    """Run the jobs at every interval, and recovery at every missed deadline, until cancelled.

    With an interval of zero nothing is run in this process.
    """
    if not settings.interval:
        return
    delay = settings.initial_delay / _SECOND
    if settings.initial_random:  # so that servers that start together do not work together
        delay += random.random() * settings.interval / _SECOND  # noqa: S311 (no secret)
    await asyncio.sleep(delay)
    loop = asyncio.get_running_loop()
    next_round, pause = loop.time(), 0.0
    while True:
        try:
            await service.recover()
            if loop.time() >= next_round:
                await service.expire()
                next_round = loop.time() + settings.interval / _SECOND
            pause = 0.0
        except RatusError as error:
            pause = min(max(_FIRST_PAUSE, 2 * pause), _LONGEST_PAUSE)
            _log.warning("recovery has to wait: %s", error)
            await asyncio.sleep(pause)
            continue
        await service.deadlines.wait(next_round - loop.time())
