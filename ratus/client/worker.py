"""Workers: a handler for every task, several at once, until a signal says that it is enough."""

import asyncio
import inspect
import logging
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any, Final, Generic, TypeVar, Unpack

from ratus.client.feed import END_SECONDS, Feed
from ratus.client.inputs import Duration, to_duration
from ratus.client.retries import Policy, Retry
from ratus.client.subscription import SubscribeOptions
from ratus.client.task import HeldTask
from ratus.errors import NonceMismatch, NotFound, RatusError

H = TypeVar("H", bound=HeldTask[Any])

STOP_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT)
GRACE: Final = timedelta(seconds=30)

_logger = logging.getLogger(__name__)


class WorkerOptions(SubscribeOptions, total=False):
    """How tasks are delivered, and what happens to them."""

    retry: Duration | Policy
    """What becomes of a task whose handler raises: the pause until it is executed again, a `Retry`, or a function
    that prepares the commit. Default: 5 s."""
    time_limit: Duration
    """How long a handler may take; then it is cancelled and has failed. Default: no limit."""


class Worker(Generic[H]):
    """Calls a handler for each task of some topics, `concurrency` at once; see `Queue.worker`.

    When the handler returns, the task is committed with what the handler has set on it. When it raises, the retry
    policy says what becomes of the task. A handler whose promise was lost is cancelled, since another consumer may
    execute the task. Calling a worker calls its handler.
    """

    def __init__(
        self,
        topics: Sequence[str],
        handler: Callable[[H], object],
        subscribe: Callable[..., Feed[H]],
        *,
        retry: Duration | Policy = "5s",
        time_limit: Duration | None = None,
        **options: Unpack[SubscribeOptions],
    ) -> None:
        self.handler = handler
        self._topics = topics
        self._subscribe = subscribe
        self._options = options
        self._retry: Policy = retry if callable(retry) else Retry(retry)
        self._time_limit = None if time_limit is None else to_duration(time_limit, "time_limit").total_seconds()
        self._is_async = inspect.iscoroutinefunction(handler)
        self._threads: ThreadPoolExecutor | None = None
        self._feed: Feed[H] | None = None
        self._under_way: dict[H, asyncio.Task[None]] = {}
        self._stopping = False
        self._aborting = False

    def __call__(self, task: H) -> Any:
        """Call the handler alone, as a test may want to."""
        return self.handler(task)

    def stop(self) -> None:
        """Take no more tasks, and let `run` return once those under way are done."""
        self._stopping = True
        if self._feed is not None:
            self._feed.stop()

    def abort(self) -> None:
        """Stop, cancel what is under way, and give it back."""
        self._aborting = True
        self.stop()
        if self._is_async:  # a thread cannot be stopped
            for running in self._under_way.values():
                running.cancel()

    async def run(self, grace: Duration = GRACE) -> None:
        """Work until it is stopped; then wait so long for what is under way, and give back the rest.

        Raises what the server has against the subscription (BadRequest).
        """
        seconds = to_duration(grace, "grace").total_seconds()
        feed = self._feed = self._subscribe(self._topics, **self._options)
        feed.keeper.on_lost = self._on_lost
        if not self._is_async:
            self._threads = ThreadPoolExecutor(self._options.get("concurrency", 1), "ratus-worker")
        try:
            while not self._stopping and (task := await feed.next()) is not None:
                running = asyncio.create_task(self._handle(task))
                self._under_way[task] = running
                running.add_done_callback(lambda _, task=task: self._under_way.pop(task))  # type: ignore[misc]  # not inferred
            if self._under_way:
                await asyncio.wait(self._under_way.values(), timeout=seconds)
        finally:
            await self._end(feed)

    async def _end(self, feed: Feed[H]) -> None:
        self.abort()
        if self._is_async and self._under_way:
            await asyncio.wait(self._under_way.values(), timeout=END_SECONDS)
        if self._under_way:
            _logger.warning("%d handlers do not end; their tasks wait for their deadlines", len(self._under_way))
            feed.keeper.forget(self._under_way)
        await feed.keeper.give_back(list(feed.keeper.held.values()))  # of handlers that had no time to begin
        if self._threads is not None:
            self._threads.shutdown(wait=False, cancel_futures=True)
        await feed.close()
        self._stopping = self._aborting = False

    async def _handle(self, task: H) -> None:
        try:
            if self._time_limit is None:
                await self._call(task)
            else:
                async with asyncio.timeout(self._time_limit):
                    await self._call(task)
        except asyncio.CancelledError as error:
            if self._aborting:
                await task._leave(error)
            elif not task.lost:  # nobody here has cancelled it
                await self._fail(task, error)
        except Exception as error:  # noqa: BLE001 (whatever a handler raises is its failure)
            await self._fail(task, error)
        else:
            await self._commit(task)

    async def _call(self, task: H) -> None:
        if self._is_async:
            result = self.handler(task)
        else:
            result = await asyncio.get_running_loop().run_in_executor(self._threads, self.handler, task)
        if isinstance(result, Awaitable):
            await result

    async def _fail(self, task: H, error: BaseException) -> None:
        if task.settled:
            _logger.error("the handler of task %r failed after its commit", task.id, exc_info=error)
            return
        task.reset()
        try:
            self._retry(task, error)
        except Exception:  # it is the user's code; the task must not stay with us for that
            _logger.exception("the retry policy failed for task %r", task.id)
            task.reset().retry("5s")
        what = f"it is executed again in {task.defer}" if task.defer is not None else f"it becomes {task.state.name}"
        _logger.error("the handler of task %r failed; %s", task.id, what, exc_info=error)
        await self._commit(task)

    async def _commit(self, task: H) -> None:
        try:
            await task._leave(None)
        except (NonceMismatch, NotFound) as error:
            _logger.warning("task %r was taken by others while it was executed: %s", task.id, error)
        except RatusError as error:
            _logger.error("task %r could not be committed: %s", task.id, error)

    def _on_lost(self, task: H) -> None:
        if self._is_async and (running := self._under_way.get(task)) is not None:
            running.cancel()


async def run_workers(workers: Sequence[Worker[Any]], grace: Duration, signals: Iterable[int]) -> None:
    """Run workers until all are stopped, or a signal stops them; a second one gives back what is under way."""
    if not workers:
        raise RuntimeError("there is no worker to run; make one with the decorator queue.worker(…)")
    try:
        async with _stopped_by(workers, signals), asyncio.TaskGroup() as group:
            for worker in workers:
                group.create_task(worker.run(grace))
    except ExceptionGroup as errors:  # of one task or more; callers expect what a worker raises
        raise errors.exceptions[0] from None  # the first has cancelled the others


@asynccontextmanager
async def _stopped_by(workers: Sequence[Worker[Any]], signals: Iterable[int]) -> AsyncIterator[None]:
    loop = asyncio.get_running_loop()
    stopping = False

    def stop(number: int) -> None:
        nonlocal stopping
        _logger.info("%s: %s", signal.Signals(number).name, "giving back" if stopping else "finishing")
        for worker in workers:
            worker.abort() if stopping else worker.stop()
        stopping = True

    for number in signals:
        loop.add_signal_handler(number, stop, number)
    try:
        yield
    finally:
        for number in signals:
            loop.remove_signal_handler(number)
