"""The synchronous client: the asynchronous one, which runs in a thread of its own.

Nothing is done twice: `blocking` makes a method of each coroutine of `Queue`, and what is delivered comes from the
same feeds.
"""

import functools
import signal
import threading
from collections.abc import Callable, Coroutine, Iterable, Iterator, Mapping
from contextlib import ExitStack
from functools import partial
from types import FrameType, TracebackType
from typing import Any, Concatenate, Generic, ParamSpec, Self, TypeVar, Unpack, overload

from ratus.client import payloads
from ratus.client.feed import Feed
from ratus.client.inputs import Duration, to_duration
from ratus.client.keeper import Keeper
from ratus.client.portal import Portal
from ratus.client.queue import ClaimOptions, Queue, connect
from ratus.client.subscription import SubscribeOptions
from ratus.client.task import HeldTask
from ratus.client.tls import TLS
from ratus.client.worker import GRACE, STOP_SIGNALS, Worker, WorkerOptions, run_workers
from ratus.model import Task

A = ParamSpec("A")
P = TypeVar("P")
R = TypeVar("R")


def connect_sync(
    *targets: str,
    consumer: str = "",
    producer: str = "",
    tls: TLS | bool | None = None,
    metadata: Mapping[str, str | bytes] | None = None,
    patience: Duration = "30s",
) -> "SyncQueue":
    """A client for code without `async`; takes what `connect` takes.

    with ratus.connect_sync("127.0.0.1:50051") as queue:
        queue.insert("greet", {"name": "world"})
    """
    return SyncQueue(
        connect(*targets, consumer=consumer, producer=producer, tls=tls, metadata=metadata, patience=patience)
    )


def blocking(
    method: "Callable[Concatenate[Any, A], Coroutine[Any, Any, R]]",
) -> "Callable[Concatenate[SyncQueue, A], R]":
    """The method of a `SyncQueue` that waits for a coroutine of its `Queue`."""

    @functools.wraps(method)
    def wait(self: "SyncQueue", /, *args: A.args, **kwargs: A.kwargs) -> R:
        return self._portal.run(method(self._queue, *args, **kwargs))

    return wait


class SyncActiveTask(HeldTask[P]):
    """A task that was claimed, for code without `async`.

        with task:
            task.topic = work(task.payload)

    commits when the block ends, and gives the task back when it raises.
    """

    def __init__(self, task: Task, keeper: Keeper[Any], decode: Callable[[Any], Any], portal: Portal) -> None:
        super().__init__(task, keeper, decode)
        self._portal = portal

    def commit(self) -> None:
        """Apply what was prepared, by default completing the task; a second time nothing happens.

        Raises:
            NonceMismatch: the promise holds no longer. Someone else executes the task, or has done so.
            NotFound: the task was deleted.
            Unavailable: the server could not be reached; whether the commit was applied is not known.
        """
        self._portal.run(self._apply(self._commit))

    def release(self) -> None:
        """Give the task back, so that it is pending at once; what was prepared is not sent. Raises as `commit`."""
        self._portal.run(self._apply(self._release()))

    def extend(self, timeout: Duration) -> None:
        """Let the promise hold so long from now on. Raises NonceMismatch if it does not hold, and Unavailable."""
        self._portal.run(self._keeper.extend(self, to_duration(timeout, "timeout")))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._portal.run(self._leave(error))


class SyncSubscription(Generic[P]):
    """Tasks of some topics as they become due: iterate over it, in one thread or in several at once.

    As `Subscription`: a loop that is left ends it, but inside a `with` block that is what the end of the block does.
    """

    def __init__(self, feed: Feed[SyncActiveTask[P]], portal: Portal) -> None:
        self._feed = feed
        self._portal = portal
        self._loops = 0
        self._entered = False

    def next(self) -> SyncActiveTask[P] | None:
        """The next task, None once the subscription is stopped. Raises BadRequest if the server refuses it."""
        return self._portal.run(self._feed.next())

    def stop(self) -> None:
        """Take no more tasks and let loops end, also from another thread or a signal handler."""
        self._portal.call(self._feed.stop)

    def close(self) -> None:
        """Stop, and wait until what is not used has been given back. What loops hold can still be committed."""
        self._portal.run(self._feed.close())

    def __iter__(self) -> Iterator[SyncActiveTask[P]]:
        self._loops += 1
        try:
            while (task := self.next()) is not None:
                yield task
        finally:
            self._loops -= 1
            if not self._loops and not self._entered:
                self.close()

    def __enter__(self) -> Self:
        self._entered = True
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class SyncQueue:
    """A client of a Ratus server, for code without `async`; see `connect_sync`.

    Its methods are those of `Queue`. All may be used by any number of threads at once.
    """

    def __init__(self, queue: Queue) -> None:
        self._queue = queue
        self._portal = Portal()
        self._workers: list[Worker[Any]] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Give back what subscriptions hold, finish what is under way, and close the connection."""
        if self._portal.is_closed:
            return
        try:
            self._portal.run(self._queue.close())
        finally:
            self._portal.close()

    insert = blocking(Queue.insert)
    upsert = blocking(Queue.upsert)
    list_tasks = blocking(Queue.list_tasks)
    get_task = blocking(Queue.get_task)
    insert_task = blocking(Queue.insert_task)
    insert_tasks = blocking(Queue.insert_tasks)
    upsert_task = blocking(Queue.upsert_task)
    upsert_tasks = blocking(Queue.upsert_tasks)
    delete_task = blocking(Queue.delete_task)
    delete_tasks = blocking(Queue.delete_tasks)
    commit_task = blocking(Queue.commit_task)
    commit_tasks = blocking(Queue.commit_tasks)
    list_topics = blocking(Queue.list_topics)
    get_topic = blocking(Queue.get_topic)
    get_topic_stats = blocking(Queue.get_topic_stats)
    delete_topic = blocking(Queue.delete_topic)
    delete_topics = blocking(Queue.delete_topics)
    list_promises = blocking(Queue.list_promises)
    get_promise = blocking(Queue.get_promise)
    insert_promise = blocking(Queue.insert_promise)
    upsert_promise = blocking(Queue.upsert_promise)
    delete_promise = blocking(Queue.delete_promise)
    delete_promises = blocking(Queue.delete_promises)
    extend_promises = blocking(Queue.extend_promises)
    claim_tasks = blocking(Queue.claim_tasks)
    get_server_info = blocking(Queue.get_server_info)

    @overload
    def claim(self, topic: str, **options: Unpack[ClaimOptions]) -> list[SyncActiveTask[Any]]: ...

    @overload
    def claim(self, topic: str, *, type: type[P], **options: Unpack[ClaimOptions]) -> list[SyncActiveTask[P]]: ...

    def claim(self, topic: str, *, type: Any = Any, **options: Unpack[ClaimOptions]) -> list[SyncActiveTask[Any]]:
        """Claim due tasks of a topic, and wait for the first of them; see `Queue.claim`."""
        return self._portal.run(self._queue._claim(topic, self._maker(type), **options))

    @overload
    def subscribe(self, *topics: str, **options: Unpack[SubscribeOptions]) -> SyncSubscription[Any]: ...

    @overload
    def subscribe(self, *topics: str, type: type[P], **options: Unpack[SubscribeOptions]) -> SyncSubscription[P]: ...

    def subscribe(self, *topics: str, type: Any = Any, **options: Unpack[SubscribeOptions]) -> SyncSubscription[Any]:
        """Tasks of topics as they become due, for ever; see `Queue.subscribe`.

        for task in queue.subscribe("fetch", timeout="30s"):
            with task:
                fetch(task.payload["url"])
        """
        return SyncSubscription(self._queue._feed(topics, self._maker(type), **options), self._portal)

    @overload
    def worker(
        self, *topics: str, **options: Unpack[WorkerOptions]
    ) -> Callable[[Callable[[SyncActiveTask[Any]], object]], Worker[SyncActiveTask[Any]]]: ...

    @overload
    def worker(
        self, *topics: str, type: type[P], **options: Unpack[WorkerOptions]
    ) -> Callable[[Callable[[SyncActiveTask[P]], object]], Worker[SyncActiveTask[P]]]: ...

    def worker(
        self, *topics: str, type: Any = Any, **options: Unpack[WorkerOptions]
    ) -> Callable[[Callable[[SyncActiveTask[Any]], object]], Worker[SyncActiveTask[Any]]]:
        """Make a function the handler of the tasks of topics, called in `concurrency` threads; see `Queue.worker`."""

        def decorate(handler: Callable[[SyncActiveTask[Any]], object]) -> Worker[SyncActiveTask[Any]]:
            subscribe = partial(self._queue._feed, make=self._maker(type))
            worker: Worker[SyncActiveTask[Any]] = Worker(topics, handler, subscribe, **options)
            self._workers.append(worker)
            return worker

        return decorate

    def run(self, *, grace: Duration = GRACE, signals: Iterable[int] = STOP_SIGNALS) -> None:
        """Run all workers of this queue, until `stop` or a signal ends them; see `Queue.run`.

        A handler in a thread cannot be stopped from outside: a task whose handler does not end in time waits for its
        deadline, and a second signal does what it would do without a worker. Outside of the main thread signals are
        left alone.
        """
        with ExitStack() as stack:
            if threading.current_thread() is threading.main_thread():

                def stop(number: int, frame: FrameType | None) -> None:
                    stack.close()
                    self.stop()

                for number in signals:
                    stack.callback(signal.signal, number, signal.signal(number, stop))
            self._portal.run(run_workers(self._workers, grace, ()))

    def stop(self) -> None:
        """Let `run` return once the tasks under way are done; also from another thread or a signal handler."""
        for worker in self._workers:
            self._portal.call(worker.stop)

    def _maker(self, type: Any) -> Callable[[Task, Keeper[Any]], SyncActiveTask[Any]]:
        decode = payloads.decoder(type)
        return lambda task, keeper: SyncActiveTask(task, keeper, decode, self._portal)
