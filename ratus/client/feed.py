"""Delivery: tasks come as they become due, over streams that are opened anew when they break."""

import asyncio
import contextlib
import logging
import math
from collections import deque
from collections.abc import Callable, Coroutine
from typing import Any, Final, Generic, TypeVar

import msgspec

from ratus.client.keeper import Keeper
from ratus.client.task import HeldTask
from ratus.config import DEFAULT_TIMEOUT
from ratus.errors import BadRequest, RatusError, Unavailable
from ratus.model import PollRequest, Task
from ratus.rpc.connection import Connection, pauses
from ratus.rpc.remote_work import RemoteWork

H = TypeVar("H", bound=HeldTask[Any])

END_SECONDS: Final = 5.0  # for the server to end a stream, and for giving back

_logger = logging.getLogger(__name__)


class Feed(Generic[H]):
    """Delivers tasks while it is open. It holds no more than `request.max_in_flight` at once, over all its streams."""

    def __init__(
        self,
        connection: Connection,
        request: PollRequest,
        make: Callable[[Task, Keeper[H]], H],
        *,
        extend: bool,
    ) -> None:
        self.keeper: Keeper[H] = Keeper(connection)
        self._make = make
        self.keeper.on_less = self._on_less
        self._connection = connection
        self._request = request
        self._timeout = DEFAULT_TIMEOUT if request.timeout is None else request.timeout
        self._extend = extend
        self._ready: deque[H] = deque()
        self._changed = asyncio.Event()  # for those who wait in `next`
        self._less = asyncio.Event()  # fewer tasks are held
        self._carried: set[str] = set()  # held tasks that the window of this stream does not count
        self._stream: RemoteWork | None = None
        self._stopping = False
        self._running: asyncio.Task[None] | None = None
        self._extending: asyncio.Task[None] | None = None
        self._background: set[asyncio.Task[None]] = set()

    @property
    def is_over(self) -> bool:
        """Whether it has been closed and nothing is held."""
        return self._stopping and not self.keeper.held and (self._running is None or self._running.done())

    async def next(self) -> H | None:
        """The next task; None once it is stopped. Raises what the server has against the subscription."""
        running = self._start()
        while True:
            while self._ready:
                if not (task := self._ready.popleft()).lost:
                    return task
            if self._stopping:
                return None
            if running.done():
                running.result()
            self._changed.clear()
            await self._changed.wait()

    def stop(self) -> None:
        """Take no more tasks, and give back those that `next` has not handed out; returns at once."""
        if self._stopping:
            return
        self._stopping = True
        self._changed.set()
        if self._stream is not None:
            self._begin(self._stream.finish())
        elif self._running is not None:
            self._running.cancel()
        if self._ready:
            unused = list(self._ready)
            self._ready.clear()
            self._begin(self.keeper.give_back(unused))

    async def close(self) -> None:
        """Stop, and return once the stream has ended. What was handed out stays with the program, and is extended."""
        self.stop()
        if self._running is not None:
            await asyncio.wait({self._running}, timeout=END_SECONDS)
            self._running.cancel()
            await asyncio.wait({self._running})
        if self._background:
            await asyncio.wait(self._background, timeout=END_SECONDS)
        if self._extending is not None and not self.keeper.held:
            self._extending.cancel()

    async def abandon(self) -> None:
        """Close, and give back all that is held."""
        try:
            async with asyncio.timeout(END_SECONDS):
                await self.close()
                await self.keeper.give_back(list(self.keeper.held.values()))
        except TimeoutError:
            _logger.warning("%d tasks could not be given back, they wait for their deadlines", len(self.keeper.held))
        for task in (self._running, self._extending, *self._background):
            if task is not None:
                task.cancel()

    def _start(self) -> asyncio.Task[None]:
        if self._running is None:
            self._running = asyncio.create_task(self._run())
            self._running.add_done_callback(lambda _: self._changed.set())
            if self._extend:
                self._extending = asyncio.create_task(self.keeper.extend_all(self._timeout, lambda: self._stopping))
        return self._running

    def _begin(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._background.add(task)
        task.add_done_callback(self._background.discard)

    async def _run(self) -> None:
        waits = pauses()
        while not self._stopping:
            await self._room()
            link = await self._connection.link(math.inf)
            stream = RemoteWork(link, self._connection.metadata)
            try:
                await self._serve(stream)
            except BadRequest:
                raise
            except RatusError as error:
                if isinstance(error, Unavailable):
                    self._connection.avoid(link)
                _logger.warning("the stream of %s has ended and is opened anew: %s", self._request.topics, error)
            finally:
                stream.cancel()
            if stream.started:
                waits = pauses()
            if not self._stopping:
                await asyncio.sleep(next(waits))

    async def _serve(self, stream: RemoteWork) -> None:
        self._carried = set(self.keeper.held)
        window = self._request.max_in_flight - len(self._carried)
        await stream.start(msgspec.structs.replace(self._request, max_in_flight=window))
        self._stream = self.keeper.committer.stream = stream
        growing = asyncio.create_task(self._grow(stream))
        try:
            async for tasks, lost in stream.messages():
                self.keeper.lose(lost)
                self._take(tasks)
        finally:
            self._stream = self.keeper.committer.stream = None
            growing.cancel()

    def _take(self, tasks: list[Task]) -> None:
        held = [self._make(task, self.keeper) for task in tasks]
        for task in held:
            self.keeper.add(task)
        if self._stopping and held:
            self._begin(self.keeper.give_back(held))
        else:
            self._ready += held
            self._changed.set()

    async def _room(self) -> None:
        """Return once fewer tasks are held than may be."""
        while len(self.keeper.held) >= self._request.max_in_flight:
            await self._wait_less()

    async def _grow(self, stream: RemoteWork) -> None:
        """Let the window of a stream grow as tasks of the streams before it are settled."""
        before = len(self._carried)
        while self._carried:
            await self._wait_less()
            self._carried.intersection_update(self.keeper.held)
            if len(self._carried) < before:
                before = len(self._carried)
                try:
                    await stream.resize(self._request.max_in_flight - before, self._request.max_bytes)
                except RatusError:
                    return  # the stream has ended

    async def _wait_less(self) -> None:
        """Return when a task is held no longer, or so; tasks that the program has dropped do not tell."""
        self._less.clear()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(1):
                await self._less.wait()

    def _on_less(self, id: str) -> None:
        self._carried.discard(id)
        self._less.set()
