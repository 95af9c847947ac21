"""When a stream has been silent for so long that it has to say that it lives."""

import asyncio
from datetime import timedelta

from ratus.config import DEFAULT_HEARTBEAT
from ratus.model import PollRequest


class Heartbeat:
    """Falls due when nothing was sent for the time that the client asked for."""

    def __init__(self, request: PollRequest) -> None:
        self._loop = asyncio.get_running_loop()
        self._seconds = (request.heartbeat or DEFAULT_HEARTBEAT).total_seconds()
        self._due_at = self._loop.time() + self._seconds

    def restart(self) -> None:
        """Something was sent."""
        self._due_at = self._loop.time() + self._seconds

    def left(self) -> timedelta:
        """The time until it falls due."""
        return timedelta(seconds=max(self._due_at - self._loop.time(), 0.001))

    def is_due(self) -> bool:
        """Whether it is time to send something."""
        return self._loop.time() >= self._due_at
