"""A client's connection: channels to one or more servers, of which one is used at a time."""

import asyncio
import math
import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final

import grpc
from grpc_health.v1 import health_pb2_grpc

from ratus.errors import Draining, StorageUnavailable, Unavailable
from ratus.rpc.errors import from_rpc_error
from ratus.v1.promise_service_pb2_grpc import PromiseServiceStub
from ratus.v1.server_service_pb2_grpc import ServerServiceStub
from ratus.v1.task_service_pb2_grpc import TaskServiceStub
from ratus.v1.topic_service_pb2_grpc import TopicServiceStub

OPTIONS: Final = (
    ("grpc.max_receive_message_length", -1),  # one task always passes, however large the server lets payloads be
    ("grpc.max_send_message_length", -1),  # the server says what is too large
    ("grpc.keepalive_time_ms", 20_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
    # Calls fail at once while there is no connection, so look for one often; 2 s is also the time that one may take.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 2_000),
    ("grpc.max_reconnect_backoff_ms", 2_000),
)

TIMEOUT: Final = 30.0  # seconds, of a call
FIRST_PAUSE: Final = 0.05  # seconds, between attempts
LONGEST_PAUSE: Final = 2.0

_CLOSED: Final = "the client is closed"
_READY: Final = grpc.ChannelConnectivity.READY


class Link:
    """The channel to one server with the stubs of all services; create it inside the running loop."""

    def __init__(
        self, target: str, credentials: grpc.ChannelCredentials | None, options: Sequence[tuple[str, Any]]
    ) -> None:
        self.target = target
        if credentials is None:
            self.channel = grpc.aio.insecure_channel(target, options=options)
        else:
            self.channel = grpc.aio.secure_channel(target, credentials, options=options)
        self.tasks = TaskServiceStub(self.channel)
        self.topics = TopicServiceStub(self.channel)
        self.promises = PromiseServiceStub(self.channel)
        self.server = ServerServiceStub(self.channel)
        self.health = health_pb2_grpc.HealthStub(self.channel)  # type: ignore[no-untyped-call]


class Connection:
    """Calls to whichever of `targets`, such as `127.0.0.1:50051`, serves; they must share one storage.

    Without `patience` a call fails at once when there is no connection. With it, a call waits so many seconds for a
    connection, and is repeated as long after an error that may pass, if that is safe. Channels are opened by the
    first call, in its event loop.
    """

    def __init__(
        self,
        *targets: str,
        credentials: grpc.ChannelCredentials | None = None,
        server_name: str = "",
        metadata: Mapping[str, str | bytes] | None = None,
        patience: float = 0.0,
        user_agent: str = "",
    ) -> None:
        if not targets:
            raise ValueError("at least one target is needed")
        self.targets = targets
        self.metadata = tuple((metadata or {}).items())
        self._credentials = credentials
        self._patience = patience
        self._options: tuple[tuple[str, Any], ...] = OPTIONS
        if user_agent:
            self._options += (("grpc.primary_user_agent", user_agent),)
        if server_name:  # in the certificate, where it is not that of the target
            self._options += (("grpc.ssl_target_name_override", server_name),)
        self._opened: list[Link] = []
        self.is_closed = False
        self._current = random.randrange(len(targets))  # noqa: S311 (it only spreads the load)

    async def close(self) -> None:
        """Cancel what is under way and close the channels; StorageUnavailable for who still waits."""
        self.is_closed = True
        for link in self._opened:
            await link.channel.close()

    async def call(
        self, method: Callable[[Link], Any], request: Any, *, timeout: float = TIMEOUT, repeat: bool = False
    ) -> Any:
        """The answer of a method; with `repeat`, it may be carried out more than once. RatusError."""
        patience = self.patience()
        while True:
            try:
                return await self.attempt(method, request, timeout)
            except Unavailable as error:
                safe = repeat or isinstance(error, Draining)  # what drains has not begun
                if not safe or not await patience.again():
                    raise

    async def attempt(self, method: Callable[[Link], Any], request: Any, timeout: float) -> Any:
        """The answer of a method, once there is a connection; it is called once. RatusError."""
        link = await self.link()
        try:
            return await method(link)(request, timeout=timeout, metadata=self.metadata)
        except grpc.aio.AioRpcError as rpc_error:
            error = from_rpc_error(rpc_error)
            if isinstance(error, Unavailable):
                self.avoid(link)
            raise error from rpc_error
        except grpc.aio.UsageError as error:
            raise StorageUnavailable(_CLOSED) from error

    def patience(self) -> "Patience":
        """The patience for one call, from now on."""
        return Patience(self, self._patience)

    async def link(self, patience: float | None = None) -> Link:
        """The link to use, once it is connected; StorageUnavailable if none is in time, `math.inf` for ever."""
        if self.is_closed:
            raise StorageUnavailable(_CLOSED)
        links = self.links()
        for offset in range(len(links)):
            index = (self._current + offset) % len(links)
            if links[index].channel.get_state(try_to_connect=True) is _READY:
                self._current = index
                return links[index]
        patience = self._patience if patience is None else patience
        if not patience and len(links) == 1:
            return links[0]  # the call says what is wrong
        waits = {asyncio.create_task(link.channel.channel_ready()): link for link in links}
        try:
            done, _ = await asyncio.wait(
                waits, timeout=patience if patience < math.inf else None, return_when=asyncio.FIRST_COMPLETED
            )
        finally:
            for wait in waits:
                wait.cancel()
        if self.is_closed or any(wait.exception() for wait in done):
            raise StorageUnavailable(_CLOSED)
        if not done:
            raise StorageUnavailable(f"the server cannot be reached at {', '.join(self.targets)}")
        link = waits[done.pop()]
        self._current = links.index(link)
        return link

    def avoid(self, link: Link) -> None:
        """Use another link next, if there is one."""
        if link is self._opened[self._current]:
            self._current = (self._current + 1) % len(self._opened)

    def links(self) -> list[Link]:
        """The links to all targets."""
        if not self._opened:
            self._opened = [Link(target, self._credentials, self._options) for target in self.targets]
        return self._opened


class Patience:
    """How long to go on with a call that fails."""

    def __init__(self, connection: Connection, seconds: float) -> None:
        self._connection = connection
        self._end = time.monotonic() + seconds
        self._pauses = pauses()

    async def again(self) -> bool:
        """Pause before the next attempt; False, at once, when there is to be none."""
        if self._connection.is_closed or time.monotonic() >= self._end:
            return False
        await asyncio.sleep(next(self._pauses))
        return True


class OneAttempt:
    """Calls over a connection that are never repeated, for callers that have to know how an attempt ended."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def call(
        self, method: Callable[[Link], Any], request: Any, *, timeout: float = TIMEOUT, repeat: bool = False
    ) -> Any:
        """The answer of a method, once there is a connection. RatusError."""
        return await self._connection.attempt(method, request, timeout)


def pauses() -> Iterator[float]:
    """Seconds to wait before the next attempt: twice as long each time up to a bound, with jitter."""
    pause = FIRST_PAUSE
    while True:
        yield pause * random.uniform(0.5, 1)  # noqa: S311 (it only spreads the load)
        pause = min(2 * pause, LONGEST_PAUSE)
