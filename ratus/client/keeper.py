"""What this process has claimed: settles it, and extends its promises while it is worked on."""

import asyncio
import logging
import time
from collections.abc import Callable, Iterable, Sequence
from datetime import timedelta
from typing import Any, Final, Generic, TypeVar
from weakref import WeakValueDictionary

from ratus.client.commits import Committer
from ratus.client.task import HeldTask
from ratus.errors import NonceMismatch, NotFound, RatusError
from ratus.model import Commit, Extension, TaskState
from ratus.rpc.connection import Connection
from ratus.rpc.remote_calls import RemoteCalls

H = TypeVar("H", bound=HeldTask[Any])

MAX_EXTENSIONS: Final = 1000  # of one call

_logger = logging.getLogger(__name__)


class Keeper(Generic[H]):
    """The tasks of one subscription, or of all claims of a queue.

    A task that nobody can commit any more, since the program has dropped it, is not extended either.
    """

    def __init__(self, connection: Connection) -> None:
        self.committer = Committer(connection)
        self.held: WeakValueDictionary[str, H] = WeakValueDictionary()
        self.on_less: Callable[[str], None] = lambda _: None  # called with what is held no longer
        self.on_lost: Callable[[H], None] = lambda _: None
        self._calls = RemoteCalls(connection)

    def add(self, task: H) -> None:
        """Keep a task that was claimed."""
        if (older := self.held.get(task.id)) is not None:
            self._lose(older)
        self.held[task.id] = task

    async def settle(self, task: HeldTask[Any], commit: Commit) -> None:
        """Apply a commit; RatusError. Either way the promise is not extended any more."""
        self._drop(task)  # first, since the task may be delivered again before the answer comes
        try:
            await self.committer.commit(commit, task._task)
        except (NonceMismatch, NotFound):
            task._lose()
            raise

    async def extend(self, task: HeldTask[Any], timeout: timedelta) -> None:
        """Let a promise hold so long from now on; RatusError."""
        [outcome] = await self._extend([task], timeout)
        if outcome is not None:
            raise outcome

    async def give_back(self, tasks: Sequence[H]) -> None:
        """Give tasks back that are not settled yet; what cannot be given back waits for its deadline."""
        for task in tasks:
            task._settled = True
            self._drop(task)
        commits = [Commit(id=task.id, nonce=task._task.nonce, state=TaskState.PENDING) for task in tasks]
        outcomes = await asyncio.gather(*map(self.committer.commit, commits), return_exceptions=True)
        for task, outcome in zip(tasks, outcomes, strict=True):
            if isinstance(outcome, NonceMismatch | NotFound):
                task._lose()
            elif isinstance(outcome, RatusError):
                _logger.warning("task %r could not be given back, it waits for its deadline: %s", task.id, outcome)
            elif isinstance(outcome, BaseException):
                raise outcome

    async def extend_all(self, timeout: timedelta, done: Callable[[], bool]) -> None:
        """Extend what is held once half of its timeout has passed, until it is done and nothing is held."""
        tick = timeout.total_seconds() / 4
        while not done() or self.held:
            await asyncio.sleep(tick)
            most = timeout * 5 / 8  # what is left at the second tick, not the third
            due = [task for task in list(self.held.values()) if task.remaining < most]
            for start in range(0, len(due), MAX_EXTENSIONS):
                await self._extend(due[start : start + MAX_EXTENSIONS], timeout)

    def lose(self, ids: Sequence[str]) -> None:
        """Take notice of promises that hold no longer."""
        for id in ids:
            if (task := self.held.get(id)) is not None:
                self._lose(task)

    async def _extend(self, tasks: Sequence[HeldTask[Any]], timeout: timedelta) -> Sequence[RatusError | None]:
        extensions = [Extension(id=task.id, nonce=task._task.nonce, timeout=timeout) for task in tasks]
        since = time.monotonic()
        try:
            stream = self.committer.stream
            if stream is not None and stream.is_open:
                outcomes = await stream.extend(extensions)
            else:
                outcomes = await self._calls.extend_promises(extensions)
        except RatusError as error:
            _logger.warning("%d promises could not be extended: %s", len(tasks), error)
            return [error] * len(tasks)
        for task, outcome in zip(tasks, outcomes, strict=True):
            if outcome is None:
                task._hold(timeout, since)
            elif isinstance(outcome, NonceMismatch) and not task.settled:
                self._lose(task)
        return outcomes

    def forget(self, tasks: Iterable[HeldTask[Any]]) -> None:
        """Extend these promises no more, nor give them back: they are worked on until their deadlines."""
        for task in tasks:
            self._drop(task)

    def _lose(self, task: HeldTask[Any]) -> None:
        task._lose()
        held = self.held.get(task.id)
        self._drop(task)
        if held is task:
            _logger.warning("the promise on task %r was lost", task.id)
            self.on_lost(held)

    def _drop(self, task: HeldTask[Any]) -> None:
        if self.held.get(task.id) is task:
            del self.held[task.id]
            self.on_less(task.id)
