"""The asynchronous client."""

import os
import secrets
import socket
from collections.abc import Mapping, Sequence
from datetime import datetime
from types import TracebackType
from typing import Any, Final, Self, TypeVar, overload

import ratus
from ratus.client import payloads
from ratus.client.inputs import Duration, new_task, to_duration
from ratus.client.inserts import Inserter
from ratus.client.keeper import Keeper
from ratus.client.subscription import Feed, Subscription
from ratus.client.task import ActiveTask
from ratus.errors import TaskExists
from ratus.model import ClaimRequest, PollRequest
from ratus.rpc.connection import TLS, Connection
from ratus.rpc.remote_calls import RemoteCalls

P = TypeVar("P")

DEFAULT_TARGET: Final = "127.0.0.1:50051"


def connect(
    *targets: str,
    consumer: str = "",
    producer: str = "",
    tls: TLS | bool = False,
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
        producer: Who makes the tasks that are inserted.
        tls: True, or what to know each other by; by default the connection is not encrypted.
        metadata: Sent with every call, such as `{"authorization": "Bearer …"}`.
        patience: How long a call waits for a connection, and is repeated where that is safe.

    Raises:
        BadRequest: for a malformed duration.
    """
    return Queue(
        Connection(
            *(targets or (DEFAULT_TARGET,)),
            tls=TLS() if tls is True else tls or None,
            metadata=metadata,
            patience=to_duration(patience, "patience").total_seconds(),
            user_agent=f"ratus-python/{ratus.__version__}",
        ),
        consumer=consumer or f"{socket.gethostname()}:{os.getpid()}",
        producer=producer,
    )


class Queue(RemoteCalls):
    """A client of a Ratus server, for asynchronous code; see `connect`.

    Its methods are the calls of the services, and `insert`, `upsert`, `commit`, `claim`, `subscribe` and `worker`,
    which are made for everyday use. All may be used by any number of coroutines at once.
    """

    def __init__(self, connection: Connection, *, consumer: str, producer: str) -> None:
        super().__init__(connection)
        self._link = connection
        self._consumer = consumer
        self._producer = producer
        self._inserter = Inserter(connection)
        self._claims: Keeper[ActiveTask[Any]] | None = None
        self._feeds: list[Feed[Any]] = []

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Give back all tasks that are held, finish what is under way, and close the connection."""
        for feed in self._feeds:
            await feed.abandon()
        await self._inserter.close()
        await self._link.close()

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

    async def claim(
        self,
        topic: str,
        *,
        limit: int = 1,
        timeout: Duration | None = None,
        wait: Duration = 0,
        consumer: str = "",
        type: Any = Any,
    ) -> list[ActiveTask[Any]]:
        """Claim due tasks of a topic, and wait for the first of them; none when there is none in time.

        Args:
            topic: The topic.
            limit: Most tasks to claim, up to 1,000.
            timeout: How long the promises hold; 10 minutes by default. They are not extended by themselves.
            wait: How long to wait for the first task, up to 10 minutes.
            consumer: Who executes the tasks, if not the consumer of the connection.
            type: What payloads are decoded as.
        """
        request = ClaimRequest(
            topic=topic,
            consumer=consumer or self._consumer,
            timeout=None if timeout is None else to_duration(timeout, "timeout"),
            limit=limit,
            wait=to_duration(wait, "wait"),
            request_id=secrets.token_hex(8),
        )
        decode = payloads.decoder(type)
        keeper: Keeper[ActiveTask[Any]] = Keeper(self._link, lambda task, keeper: ActiveTask(task, keeper, decode))
        return [keeper.add(task) for task in await self.claim_tasks(request)]

    @overload
    def subscribe(
        self,
        *topics: str,
        concurrency: int = ...,
        timeout: Duration | None = ...,
        consumer: str = ...,
        extend: bool = ...,
        max_bytes: int = ...,
    ) -> Subscription[Any]: ...

    @overload
    def subscribe(
        self,
        *topics: str,
        type: type[P],
        concurrency: int = ...,
        timeout: Duration | None = ...,
        consumer: str = ...,
        extend: bool = ...,
        max_bytes: int = ...,
    ) -> Subscription[P]: ...

    def subscribe(
        self,
        *topics: str,
        type: Any = Any,
        concurrency: int = 1,
        timeout: Duration | None = None,
        consumer: str = "",
        extend: bool = True,
        max_bytes: int = 0,
    ) -> Subscription[Any]:
        """Tasks of topics as they become due, for ever: over a stream, which is opened anew when it breaks.

            async for task in queue.subscribe("fetch", timeout="30s"):
                async with task:
                    await fetch(task.payload["url"])

        Args:
            topics: The topics, served in turn.
            type: What payloads are decoded as: anything that msgspec or pydantic knows.
            concurrency: Most tasks that are held at once, up to 10,000.
            timeout: How long a promise holds; 10 minutes by default.
            consumer: Who executes the tasks, if not the consumer of the connection.
            extend: Whether promises are extended for as long as the program holds their tasks.
            max_bytes: Most payload bytes that are held at once; 0 for no bound.
        """
        decode = payloads.decoder(type)
        request = self._poll_request(topics, concurrency, timeout, consumer, max_bytes)
        feed: Feed[ActiveTask[Any]] = Feed(
            self._link, request, lambda task, keeper: ActiveTask(task, keeper, decode), extend=extend
        )
        self._feeds.append(feed)
        return Subscription(feed)

    def _poll_request(
        self, topics: Sequence[str], concurrency: int, timeout: Duration | None, consumer: str, max_bytes: int
    ) -> PollRequest:
        return PollRequest(
            topics=list(topics),
            consumer=consumer or self._consumer,
            timeout=None if timeout is None else to_duration(timeout, "timeout"),
            max_in_flight=concurrency,
            max_bytes=max_bytes,
        )
