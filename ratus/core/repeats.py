"""Claims that are safe to repeat.

Every promise of a claim with a request ID carries a name that is made of the topic, the consumer, the request ID and
the other parameters; it is stored with the task, so that a repeat finds what is still held, also after a restart and
on another server.
"""

import asyncio
import contextlib
import hashlib
from collections.abc import AsyncIterator

from ratus import times
from ratus.engines.base import Engine
from ratus.errors import BadRequest
from ratus.model import ClaimRequest, Task


class Repeats:
    """Finds what the claims before have brought; one claim of a name at a time in this process."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._locks: dict[str, asyncio.Lock] = {}
        self._users: dict[str, int] = {}

    @contextlib.asynccontextmanager
    async def claim(self, request: ClaimRequest) -> AsyncIterator[tuple[str, list[Task]]]:
        """The name for the grants of a claim and the tasks of the same claim before that are still held; BadRequest."""
        identity = _digest(request.topic, request.consumer, request.request_id)
        name = f"{identity}.{_digest(request.limit, request.timeout, request.deadline)}"
        lock = self._locks.setdefault(identity, asyncio.Lock())
        self._users[identity] = self._users.get(identity, 0) + 1
        try:
            async with lock:
                now = times.now()
                found = await self._engine.requested(identity)
                held = [(other, task) for other, task in found if task.deadline is None or task.deadline > now]
                if any(other != name for other, _ in held):
                    raise BadRequest("was used with other parameters", field="request_id")
                yield name, [task for _, task in held]
        finally:
            self._users[identity] -= 1
            if not self._users[identity]:
                del self._users[identity], self._locks[identity]


def _digest(*parts: object) -> str:
    return hashlib.blake2b("\0".join(map(str, parts)).encode(), digest_size=12).hexdigest()
