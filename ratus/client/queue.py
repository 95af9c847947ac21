"""The asynchronous client."""

import asyncio
import contextlib
import os
import secrets
import socket
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from functools import partial
from types import TracebackType
from typing import Any, Final, Self, TypedDict, TypeVar, Unpack, overload

import ratus
from ratus.client import payloads
from ratus.client.feed import END_SECONDS, Feed
from ratus.client.inputs import Duration, new_task, to_duration
from ratus.client.inserts import Inserter
from ratus.client.keeper import Keeper
from ratus.client.subscription import SubscribeOptions, Subscription
from ratus.client.task import ActiveTask, HeldTask
from ratus.client.tls import TLS
from ratus.client.worker import GRACE, STOP_SIGNALS, Worker, WorkerOptions, run_workers
from ratus.errors import BadRequest, TaskExists
from ratus.model import ClaimRequest, PollRequest, Task
from ratus.rpc.connection import Connection
from ratus.rpc.remote_calls import RemoteCalls

P = TypeVar("P")
H = TypeVar("H", bound=HeldTask[Any])

DEFAULT_TARGET: Final = "127.0.0.1:50051"


def connect(
    *targets: str,
    consumer: str = "",
    producer: str = "",
    tls: TLS | bool | None = None,
    metadata: Mapping[str, str | bytes] | None = None,
    patience: Duration = "30s",
) -> "Queue":
    """A client of the servers at `targets`.

        async with ratus.connect("127.0.0.1:50051") as queue:
            await queue.insert("greet", {"name": "world"})

    Nothing is sent yet: the first call opens the connection, in its event loop, and the end of the block (or
    `close`) ends it.

    Args:
        targets: Addresses of servers on the same storage, of which one is used at a time. By default
            `127.0.0.1:50051`.
        consumer: Who executes the tasks that are claimed. By default the names of the host and the process.
        producer: Who makes what `insert` and `upsert` make; tasks of `new_task` name their own.
        tls: True, or what to know each other by; by default the connection is not encrypted.
        metadata: Sent with every call, such as `{"authorization": "Bearer …"}`.
        patience: How long a call waits for a connection, and is repeated where that is safe.

    Raises:
        BadRequest: for a malformed duration.
        OSError: for a file of `tls` that cannot be read.
    """
    trust = TLS() if tls is True else tls or None
    return Queue(
        Connection(
            *(targets or (DEFAULT_TARGET,)),
            credentials=trust.credentials() if trust else None,
            server_name=trust.server_name if trust else "",
            metadata=metadata,
            patience=to_duration(patience, "patience").total_seconds(),
            user_agent=f"ratus-python/{ratus.__version__}",
        ),
        consumer=consumer or f"{socket.gethostname()}:{os.getpid()}",
        producer=producer,
    )


class ClaimOptions(TypedDict, total=False):
    """How tasks are claimed."""

    limit: int
    """Most tasks to claim, up to 1,000. Default: 1."""
    timeout: Duration
    """How long the promises hold. Default: 10 minutes."""
    wait: Duration
    """How long to wait for the first task when none is due, up to 10 minutes. Default: not at all."""
    consumer: str
    """Who executes the tasks. Default: the consumer of the connection."""


class Queue(RemoteCalls):
    """A client of a Ratus server, for asynchronous code; see `connect`.

    Its methods are the calls of the services, and `insert`, `upsert`, `claim`, `subscribe`, `worker` and `run`,
    which are made for everyday use. All may be used by any number of coroutines at once.
    """

    def __init__(self, connection: Connection, *, consumer: str, producer: str) -> None:
        super().__init__(connection)
        self._servers = connection
        self._consumer = consumer
        self._producer = producer
        self._inserter = Inserter(connection)
        self._claims: Keeper[Any] = Keeper(connection)
        self._feeds: list[Feed[Any]] = []
        self._workers: list[Worker[Any]] = []

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Give back what subscriptions hold, finish what is under way, and close the connection."""
        feeds = self._feeds
        await asyncio.gather(*(feed.abandon() for feed in feeds))
        closes = [self._inserter.close, self._claims.committer.close, *(feed.keeper.committer.close for feed in feeds)]
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(END_SECONDS):
                await asyncio.gather(*(close() for close in closes))
        await self._servers.close()
        await asyncio.gather(*(close() for close in closes))

    async def insert(
        self,
        topic: str,
        payload: Any = None,
        *,
        id: str = "",
        defer: Duration | None = None,
        scheduled: datetime | None = None,
        producer: str = "",
        exist_ok: bool = False,
    ) -> str:
        """Insert a task; its ID. Calls that are made at the same time share one message.

        Takes what `ratus.new_task` takes. A task that exists is left as it is.

        Raises:
            TaskExists: a task with this ID exists, unless `exist_ok` is set.
            BadRequest, TooLarge: the task is malformed or too large.
            Unavailable: the server could not be reached; whether the task was inserted is not known.
        """
        producer = producer or self._producer
        task = new_task(topic, payload, id=id, defer=defer, scheduled=scheduled, producer=producer)
        try:
            await self._inserter.insert(task)
        except TaskExists:
            if not exist_ok:
                raise
        return task.id

    async def upsert(
        self,
        topic: str,
        payload: Any = None,
        *,
        id: str,
        defer: Duration | None = None,
        scheduled: datetime | None = None,
        producer: str = "",
    ) -> bool:
        """Insert a task or replace the one with its ID, whatever its state; whether it is new.

        Raises:
            BadRequest, TooLarge: the task is malformed or too large.
            Unavailable: the server could not be reached; whether it was done is not known.
        """
        producer = producer or self._producer
        task = new_task(topic, payload, id=id, defer=defer, scheduled=scheduled, producer=producer)
        return bool((await self.upsert_task(task)).created)

    @overload
    async def claim(self, topic: str, **options: Unpack[ClaimOptions]) -> list[ActiveTask[Any]]: ...

    @overload
    async def claim(self, topic: str, *, type: type[P], **options: Unpack[ClaimOptions]) -> list[ActiveTask[P]]: ...

    async def claim(self, topic: str, *, type: Any = Any, **options: Unpack[ClaimOptions]) -> list[ActiveTask[Any]]:
        """Claim due tasks of a topic, and wait for the first of them; none when there is none in time.

        Their promises are not extended by themselves, and tasks that are not committed stay claimed.

        Args:
            topic: The topic.
            type: What payloads are decoded as: anything that msgspec or pydantic knows.
            options: See `ClaimOptions`.
        """
        return await self._claim(topic, _maker(type), **options)

    async def _claim(
        self,
        topic: str,
        make: Callable[[Task, Keeper[H]], H],
        *,
        limit: int = 1,
        timeout: Duration | None = None,
        wait: Duration = 0,
        consumer: str = "",
    ) -> list[H]:
        request = ClaimRequest(
            topic=topic,
            consumer=consumer or self._consumer,
            timeout=None if timeout is None else to_duration(timeout, "timeout"),
            limit=limit,
            wait=to_duration(wait, "wait"),
            request_id=secrets.token_hex(8),
        )
        return [make(task, self._claims) for task in await self.claim_tasks(request)]

    @overload
    def subscribe(self, *topics: str, **options: Unpack[SubscribeOptions]) -> Subscription[Any]: ...

    @overload
    def subscribe(self, *topics: str, type: type[P], **options: Unpack[SubscribeOptions]) -> Subscription[P]: ...

    def subscribe(self, *topics: str, type: Any = Any, **options: Unpack[SubscribeOptions]) -> Subscription[Any]:
        """Tasks of topics as they become due, for ever: over a stream, which is opened anew when it breaks.

            async for task in queue.subscribe("fetch", timeout="30s"):
                async with task:
                    await fetch(task.payload["url"])

        Args:
            topics: The topics, served in turn.
            type: What payloads are decoded as: anything that msgspec or pydantic knows.
            options: See `SubscribeOptions`.
        """
        return Subscription(self._feed(topics, _maker(type), **options))

    @overload
    def worker(
        self, *topics: str, **options: Unpack[WorkerOptions]
    ) -> Callable[[Callable[[ActiveTask[Any]], object]], Worker[ActiveTask[Any]]]: ...

    @overload
    def worker(
        self, *topics: str, type: type[P], **options: Unpack[WorkerOptions]
    ) -> Callable[[Callable[[ActiveTask[P]], object]], Worker[ActiveTask[P]]]: ...

    def worker(
        self, *topics: str, type: Any = Any, **options: Unpack[WorkerOptions]
    ) -> Callable[[Callable[[ActiveTask[Any]], object]], Worker[ActiveTask[Any]]]:
        """Make a function the handler of the tasks of topics; `run` then works.

            @queue.worker("fetch", concurrency=20, timeout="30s")
            async def fetch(task: ratus.ActiveTask[Any]) -> None:
                await download(task.payload["url"])
                task.topic = "parse"

            await queue.run()

        A function that is not `async` is called in a thread of its own, where it may set what it wants on the task.

        Args:
            topics: The topics, served in turn.
            type: What payloads are decoded as: anything that msgspec or pydantic knows.
            options: See `WorkerOptions`.
        """

        def decorate(handler: Callable[[ActiveTask[Any]], object]) -> Worker[ActiveTask[Any]]:
            subscribe = partial(self._feed, make=_maker(type))
            worker: Worker[ActiveTask[Any]] = Worker(topics, handler, subscribe, **options)
            self._workers.append(worker)
            return worker

        return decorate

    async def run(self, *, grace: Duration = GRACE, signals: Iterable[int] = STOP_SIGNALS) -> None:
        """Run all workers of this queue, until `stop` or a signal ends them.

        Then no more tasks are taken, those under way get the time to end, and what is left is given back; a second
        signal gives it back at once.

        Args:
            grace: How long handlers get to end.
            signals: What ends it. Outside of the main thread there can be none.

        Raises:
            BadRequest: the server refuses a subscription.
        """
        await run_workers(self._workers, grace, tuple(signals))

    def stop(self) -> None:
        """Let `run` return once the tasks under way are done."""
        for worker in self._workers:
            worker.stop()

    def _feed(
        self,
        topics: Sequence[str],
        make: Callable[[Task, Keeper[H]], H],
        *,
        concurrency: int = 1,
        timeout: Duration | None = None,
        consumer: str = "",
        extend: bool = True,
        max_bytes: int = 0,
        release_on_close: bool = False,
    ) -> Feed[H]:
        if concurrency < 1:
            raise BadRequest("must be positive", field="concurrency")
        request = PollRequest(
            topics=list(topics),
            consumer=consumer or self._consumer,
            timeout=None if timeout is None else to_duration(timeout, "timeout"),
            max_in_flight=concurrency,
            max_bytes=max_bytes,
            release_on_close=release_on_close,
        )
        feed = Feed(self._servers, request, make, extend=extend)
        self._feeds = [feed for feed in self._feeds if not feed.is_over] + [feed]
        return feed


def _maker(type: Any) -> Callable[[Task, Keeper[Any]], ActiveTask[Any]]:
    decode = payloads.decoder(type)
    return lambda task, keeper: ActiveTask(task, keeper, decode)
