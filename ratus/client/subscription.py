"""Subscriptions: tasks to iterate over."""

from collections.abc import AsyncIterator
from types import TracebackType
from typing import Generic, Self, TypedDict, TypeVar

from ratus.client.feed import Feed
from ratus.client.inputs import Duration
from ratus.client.task import ActiveTask

P = TypeVar("P")


class SubscribeOptions(TypedDict, total=False):
    """How tasks are delivered."""

    concurrency: int
    """Most tasks that are held at once, up to 10,000. Default: 1."""
    timeout: Duration
    """How long a promise holds, from its delivery or its last extension on. Default: 10 minutes."""
    consumer: str
    """Who executes the tasks. Default: the consumer of the connection."""
    extend: bool
    """Whether promises are extended for as long as the program holds their tasks. Default: yes."""
    max_bytes: int
    """Most payload bytes that are held at once; one task always passes. Default: no bound."""
    release_on_close: bool
    """Whether the server gives back at once what a broken stream has delivered. Default: no, since the program
    may still work on it and commits it over the next stream; what a dead program held waits for its timeout."""


class Subscription(Generic[P]):
    """Tasks of some topics as they become due: iterate over it, in one loop or in several at once.

    The body of a loop works on one task at a time. `concurrency` is how many tasks may be held, those that wait for
    the loop included; for as many at work at once, use a worker, or as many loops.

    A loop that is left ends the subscription, but inside `async with queue.subscribe(…) as tasks:` that is what the
    end of the block does. Either gives back what no loop has got.
    """

    def __init__(self, feed: Feed[ActiveTask[P]]) -> None:
        self._feed = feed
        self._loops = 0
        self._entered = False

    async def next(self) -> ActiveTask[P] | None:
        """The next task, None once the subscription is stopped. Raises BadRequest if the server refuses it."""
        return await self._feed.next()

    def stop(self) -> None:
        """Take no more tasks and let loops end; what no loop has got is given back."""
        self._feed.stop()

    async def close(self) -> None:
        """Stop, and wait until what is not used has been given back. What loops hold can still be committed."""
        await self._feed.close()

    def __aiter__(self) -> AsyncIterator[ActiveTask[P]]:
        return self._iterate()

    async def _iterate(self) -> AsyncIterator[ActiveTask[P]]:
        self._loops += 1
        try:
            while (task := await self._feed.next()) is not None:
                yield task
                del task  # what the loop drops, this must not hold
        finally:
            self._loops -= 1
            if not self._loops and not self._entered:
                await self._feed.close()

    async def __aenter__(self) -> Self:
        self._entered = True
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()
