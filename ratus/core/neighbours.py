"""What other processes do on the same storage, and how this one gets to know of it."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Final

from ratus import times
from ratus.ending import cancel
from ratus.engines.base import Engine, Heard
from ratus.errors import RatusError

_log: Final = logging.getLogger(__name__)

_FIRST_POLL: Final = 0.25  # seconds between looks for due tasks; doubled while there are none
_LONGEST_POLL: Final = 2.0
_WATCHED_POLL: Final = 15.0  # while the storage tells us; a last resort
_LINGER: Final = 1.0  # seconds that the storage goes on telling when nobody listens any more
_RECONCILE: Final = 0.5  # seconds between looks at what windows hold
_PAUSE: Final = 1.0  # seconds, after a failure


class Neighbours:
    """Looks after the consumers of this process where other processes share the storage.

    `heard` is told what has become pending (see `Engine.watch`) while somebody listens, `dry` names the topics that
    consumers wait for in vain, and `reconcile` settles what was settled elsewhere.
    """

    def __init__(
        self,
        engine: Engine,
        *,
        heard: Heard,
        dry: Callable[[], Sequence[str]],
        reconcile: Callable[[], Awaitable[None]],
    ) -> None:
        self._engine = engine
        self._heard = heard
        self._dry = dry
        self._reconcile = reconcile
        self._watched = False
        self._listeners = 0
        self._some, self._none = asyncio.Event(), asyncio.Event()  # whether there are listeners

    @contextmanager
    def listen(self) -> Iterator[None]:
        """Have the storage tell what others do, which costs it as much as a write for every one."""
        self._listeners += 1
        self._some.set()
        self._none.clear()
        try:
            yield
        finally:
            self._listeners -= 1
            if not self._listeners:
                self._some.clear()
                self._none.set()

    async def run(self) -> None:
        """Look after them until cancelled."""
        while True:
            try:
                async with asyncio.TaskGroup() as group:
                    group.create_task(self._watch())
                    group.create_task(self._poll())
                    group.create_task(self._look())
            except* Exception:  # noqa: BLE001 (a fault; consumers must not stop for it in silence)
                _log.exception("looking after other processes has failed, and begins anew")
            await asyncio.sleep(_PAUSE)

    async def _watch(self) -> None:
        """Let the storage tell what becomes pending, if it can, while somebody listens."""
        while True:
            await self._some.wait()
            watch = asyncio.create_task(self._engine.watch(self._on_heard))
            silence = asyncio.create_task(self._silence())
            try:
                await asyncio.wait({watch, silence}, return_when=asyncio.FIRST_COMPLETED)
                if watch.done():
                    watch.result()
                    return
            except RatusError as error:
                _log.warning("not told of changes for now: %s", error)
                await asyncio.sleep(_PAUSE)
            finally:
                self._watched = False
                await cancel(watch, silence)

    async def _silence(self) -> None:
        """Return once nobody has listened for a while."""
        while True:
            await self._none.wait()
            try:
                async with asyncio.timeout(_LINGER):
                    await self._some.wait()
            except TimeoutError:
                return

    def _on_heard(self, topic: str | None, scheduled: datetime) -> None:
        self._watched = True
        self._heard(topic, scheduled)

    async def _poll(self) -> None:
        """Ask for due tasks in all topics that consumers wait for, with one call."""
        pause = _FIRST_POLL
        while True:
            await asyncio.sleep(_WATCHED_POLL if self._watched else pause)
            topics = self._dry()
            if not topics:
                pause = _FIRST_POLL
                continue
            now = times.now()
            try:
                due = await self._engine.due_topics(topics, now)
            except RatusError as error:
                _log.debug("cannot ask for due tasks: %s", error)
                due = []
            for topic in due:
                self._heard(topic, now)
            pause = _FIRST_POLL if due else min(2 * pause, _LONGEST_POLL)

    async def _look(self) -> None:
        """Settle what was settled elsewhere."""
        while True:
            await asyncio.sleep(_RECONCILE)
            try:
                await self._reconcile()
            except RatusError as error:
                _log.debug("cannot look at what is held: %s", error)
