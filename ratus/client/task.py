"""Tasks that were claimed, and the commits that are prepared for them."""

import asyncio
import logging
import time
from collections.abc import Callable
from datetime import datetime, timedelta
from types import TracebackType
from typing import Any, Final, Generic, Protocol, Self, TypeVar, cast

from msgspec import Raw

from ratus.client import payloads
from ratus.client.inputs import Duration, to_duration, to_time
from ratus.config import DEFAULT_TIMEOUT
from ratus.errors import RatusError
from ratus.model import Commit, Task, TaskState

P = TypeVar("P")

_ZERO: Final = timedelta(0)
_UNREAD: Final = object()

_logger = logging.getLogger(__name__)


class TaskKeeper(Protocol):
    """Who has claimed a task and speaks with the server about it."""

    async def settle(self, task: "HeldTask[Any]", commit: Commit) -> None:
        """Apply a commit; NonceMismatch, NotFound, Unavailable."""

    async def extend(self, task: "HeldTask[Any]", timeout: timedelta) -> None:
        """Set the deadline anew; NonceMismatch, Unavailable."""


class HeldTask(Generic[P]):
    """A task that was claimed. What is set on it is prepared, and sent when it is committed.

    Attributes that were not set read as the task was when it was claimed.
    """

    def __init__(self, task: Task, keeper: TaskKeeper, decode: Callable[[Raw | None], Any]) -> None:
        self._task = task
        self._keeper = keeper
        self._decode = decode
        self._payload: Any = _UNREAD
        self._settled = False
        self._lost: asyncio.Event | bool = False
        timeout = DEFAULT_TIMEOUT
        if task.deadline is not None and task.consumed is not None:
            timeout = task.deadline - task.consumed
        self._hold(timeout)
        self.reset()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.id!r} of topic {self._task.topic!r}>"

    @property
    def id(self) -> str:
        """The ID of the task."""
        return self._task.id

    @property
    def producer(self) -> str:
        """Who made the task."""
        return self._task.producer

    @property
    def consumer(self) -> str:
        """Who executes the task, as the server knows us."""
        return self._task.consumer

    @property
    def produced(self) -> datetime:
        """When the task was made, by the clock of whoever says so; the server's by default."""
        return self._task.produced

    @property
    def consumed(self) -> datetime | None:
        """When the task was claimed, by the server's clock."""
        return self._task.consumed

    @property
    def deadline(self) -> datetime | None:
        """When the promise ended as it was made, by the server's clock; see `remaining`."""
        return self._task.deadline

    @property
    def remaining(self) -> timedelta:
        """How long the promise holds yet, extensions included; clocks need not agree. Zero once it is over or lost."""
        return _ZERO if self.lost else max(timedelta(seconds=self._ends - time.monotonic()), _ZERO)

    @property
    def lost(self) -> bool:
        """Whether the promise is known to hold no longer, so that another consumer may execute the task."""
        return self._lost.is_set() if isinstance(self._lost, asyncio.Event) else self._lost

    @property
    def settled(self) -> bool:
        """Whether the task was committed or given back."""
        return self._settled

    @property
    def nonce(self) -> str:
        """The nonce of the promise, or what was set: empty to commit in any case."""
        return self._commit.nonce

    @nonce.setter
    def nonce(self, nonce: str) -> None:
        self._commit.nonce = nonce

    @property
    def topic(self) -> str:
        """The topic; set it to move the task."""
        return self._commit.topic or self._task.topic

    @topic.setter
    def topic(self, topic: str) -> None:
        self._commit.topic = topic

    @property
    def state(self) -> TaskState:
        """The state: active, or the one that was set. A commit completes the task if none was set."""
        return TaskState(self._task.state if self._commit.state is None else self._commit.state)

    @state.setter
    def state(self, state: TaskState) -> None:
        self._commit.state = state

    @property
    def scheduled(self) -> datetime:
        """When the task was due; set it to choose when it will be."""
        return self._commit.scheduled or self._task.scheduled

    @scheduled.setter
    def scheduled(self, scheduled: datetime) -> None:
        self._commit.scheduled = to_time(scheduled, "scheduled")

    @property
    def defer(self) -> timedelta | None:
        """How long from the commit the task will be due, if that was set; `scheduled` wins over it."""
        return self._commit.defer

    @defer.setter
    def defer(self, defer: Duration) -> None:
        self._commit.defer = to_duration(defer, "defer")

    @property
    def payload(self) -> P:
        """The payload; set it to replace it (a change inside of it is not sent). Raises PayloadError."""
        if self._payload is _UNREAD:
            self._payload = self._decode(self._task.payload)
        return cast(P, self._payload)

    @payload.setter
    def payload(self, payload: Any) -> None:
        text = payloads.encode(payload)
        self._commit.payload = None if text is None else Raw(text)
        self._payload = payload

    @property
    def raw_payload(self) -> bytes | None:
        """The JSON of the payload as it was claimed."""
        return None if self._task.payload is None else bytes(self._task.payload)

    def force(self) -> Self:
        """Commit in any case, whoever holds the task then."""
        self._commit.nonce = ""
        return self

    def abstain(self) -> Self:
        """Set the task back to pending by the commit."""
        self._commit.state = TaskState.PENDING
        return self

    def archive(self) -> Self:
        """Archive the task by the commit: it is neither executed nor deleted any more."""
        self._commit.state = TaskState.ARCHIVED
        return self

    def reschedule(self, when: datetime) -> Self:
        """Have the task executed again at this time."""
        self.scheduled = when
        return self.abstain()

    def retry(self, after: Duration) -> Self:
        """Have the task executed again so long after the commit."""
        self._commit.defer = to_duration(after, "defer")
        return self.abstain()

    def reset(self) -> Self:
        """Forget what was prepared."""
        self._commit = Commit(id=self._task.id, nonce=self._task.nonce)
        self._payload = _UNREAD
        return self

    def _hold(self, timeout: timedelta, since: float | None = None) -> None:
        """Let the promise hold so long from now on, or from a moment of the monotonic clock."""
        self._timeout = timeout
        self._ends = (time.monotonic() if since is None else since) + timeout.total_seconds()

    def _lose(self) -> None:
        if isinstance(self._lost, asyncio.Event):
            self._lost.set()
        else:
            self._lost = True

    async def _apply(self, commit: Commit) -> None:
        if self._settled:
            return
        self._settled = True
        try:
            await self._keeper.settle(self, commit)
        except BaseException:
            self._settled = False  # so that it can be tried again
            raise

    def _release(self) -> Commit:
        return Commit(id=self._task.id, nonce=self._task.nonce, state=TaskState.PENDING)

    async def _leave(self, error: BaseException | None) -> None:
        """What happens at the end of a `with` block."""
        if error is None:
            await self._apply(self._commit)
            return
        try:
            await self._apply(self._release())
        except RatusError as failure:  # the error of the block is the one to be seen
            _logger.warning("task %r could not be given back, it waits for its deadline: %s", self.id, failure)


class ActiveTask(HeldTask[P]):
    """A task that was claimed, for asynchronous code.

        async with task:
            task.topic = await work(task.payload)

    commits when the block ends, and gives the task back when it raises.
    """

    async def commit(self) -> None:
        """Apply what was prepared, by default completing the task; a second time nothing happens.

        Raises:
            NonceMismatch: the promise holds no longer. Someone else executes the task, or has done so.
            NotFound: the task was deleted.
            Unavailable: the server could not be reached; whether the commit was applied is not known.
        """
        await self._apply(self._commit)

    async def release(self) -> None:
        """Give the task back, so that it is pending at once; what was prepared is not sent. Raises as `commit`."""
        await self._apply(self._release())

    async def extend(self, timeout: Duration) -> None:
        """Let the promise hold so long from now on. Raises NonceMismatch if it does not hold, and Unavailable."""
        await self._keeper.extend(self, to_duration(timeout, "timeout"))

    async def wait_lost(self) -> None:
        """Return once the promise is known to hold no longer."""
        if not isinstance(self._lost, asyncio.Event):
            lost, self._lost = self._lost, asyncio.Event()
            if lost:
                self._lost.set()
        await self._lost.wait()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._leave(error)
