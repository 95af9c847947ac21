"""The background jobs: recovery of missed deadlines and expiry of completed tasks."""

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


async def run_chores(service: Service, settings: ChoreSettings) -> None:
    """Run the jobs again and again until cancelled; not at all with an interval of zero."""
    if not settings.interval:
        return
    delay = settings.initial_delay / _SECOND
    if settings.initial_random:  # so that servers that start together do not work together
        delay += random.random() * settings.interval / _SECOND  # noqa: S311 (no secret)
    await asyncio.sleep(delay)
    while True:
        try:
            await service.recover()
        except RatusError as error:
            _log.warning("recovery has to wait: %s", error)
        await asyncio.sleep(settings.interval / _SECOND)
