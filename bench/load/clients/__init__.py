"""Clients of queues, all with the same three verbs, so that one driver does the same work with each."""

from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, Protocol


class Client(Protocol):
    """What one caller uses."""

    async def put(self, bodies: Sequence[bytes]) -> None:
        """Insert tasks, and wait until the queue says that it has them."""

    async def take(self, limit: int) -> Sequence[tuple[Any, bytes]]:
        """Wait for tasks, up to so many; with each what `done` needs."""

    async def done(self, handles: Sequence[Any]) -> None:
        """Acknowledge tasks, and wait until the queue says that it knows."""


class Connect(Protocol):
    """How a module makes clients."""

    def __call__(self, address: str, count: int, batch: int) -> AbstractAsyncContextManager[list[Client]]:
        """So many clients, which take up to so many tasks at once."""
