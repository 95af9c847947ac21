"""Promises whose making has an unknown outcome: nobody knows their nonces, so they are released again."""

import asyncio
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

from pymongo.errors import PyMongoError

from ratus.ending import cancel
from ratus.engines.mongodb import errors
from ratus.engines.mongodb.fallback import Collection
from ratus.model import Grant

# A write can still be applied some time after its connection was lost.
_LOOKS: Final = 6
_FIRST_DELAY: Final = 0.1  # seconds; doubled after each look
_MAX_DELAY: Final = 10.0

_log = logging.getLogger(__name__)


@dataclass
class Attempt:
    """An attempt to make promises; `written` once some are made for certain, which a later error would hide."""

    written: bool = False


class Doubts:
    """Releases, in the background, the promises of attempts whose outcome is unknown."""

    def __init__(self, collection: Collection, released: Callable[[], None]) -> None:
        self._collection = collection
        self._released = released
        self._tasks: set[asyncio.Task[None]] = set()

    @contextmanager
    def watch(self, query: Mapping[str, Any], grants: Sequence[Grant]) -> Iterator[Attempt]:
        """Release the grants, on tasks that the query finds, when what is done here fails and may have made some.

        Grants with a request are left for its repeat, which may have been answered with them already.
        """
        attempt = Attempt()
        try:
            yield attempt
        except PyMongoError as error:
            nonces = [grant.nonce for grant in grants if not grant.request]
            if nonces and (errors.is_unknown(error) or attempt.written):
                task = asyncio.create_task(self._release(query, nonces))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)
            raise

    async def close(self) -> None:
        """Give up on what is not known yet; deadlines see to it."""
        await cancel(*self._tasks)

    async def _release(self, query: Mapping[str, Any], nonces: Sequence[str]) -> None:
        left, looks, delay = len(nonces), 0, _FIRST_DELAY
        while True:
            try:
                result = await self._collection.update_many(
                    {**query, "state": 1, "nonce": {"$in": nonces}}, {"$set": {"state": 0, "nonce": ""}}
                )
            except PyMongoError as error:
                if not errors.is_unavailable(error):
                    raise
            else:
                looks += 1
                left -= result.matched_count
                if result.matched_count:
                    self._released()
                    _log.info("MongoDB: released %d tasks that a lost connection had claimed", result.matched_count)
            if left <= 0 or looks == _LOOKS:
                return
            await asyncio.sleep(delay)
            delay = min(2 * delay, _MAX_DELAY)
