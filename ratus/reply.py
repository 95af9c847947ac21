"""What a call waits for, and who takes it when the caller has gone."""

import asyncio
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class Reply(Generic[T]):
    """The answer to a call. If the caller was cancelled, `abandoned` gets it, unless it is an error."""

    __slots__ = ("_abandoned", "_future")

    def __init__(self, loop: asyncio.AbstractEventLoop, abandoned: Callable[[T], None] | None = None) -> None:
        self._future: asyncio.Future[T] = loop.create_future()
        self._abandoned = abandoned

    @property
    def is_wanted(self) -> bool:
        """Whether somebody waits for it."""
        return not self._future.done()

    def give(self, answer: T | BaseException) -> None:
        """Answer the call."""
        if self._future.done():  # the caller was cancelled
            if self._abandoned is not None and not isinstance(answer, BaseException):
                self._abandoned(answer)
        elif isinstance(answer, BaseException):
            self._future.set_exception(answer)
        else:
            self._future.set_result(answer)

    async def wait(self) -> T:
        """The answer; raises what it is if that is an error."""
        try:
            return await self._future
        except asyncio.CancelledError:
            if self._abandoned is not None and not self._future.cancelled() and self._future.exception() is None:
                self._abandoned(self._future.result())  # the answer came in the same moment
            raise
