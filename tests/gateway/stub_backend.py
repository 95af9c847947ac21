"""A backend that does what a test wants."""

from collections.abc import Awaitable, Callable
from typing import Any


class StubBackend:
    """Whatever is called raises `error`, or returns the answers one by one; the arguments are noted."""

    def __init__(self, *answers: Any, error: Exception | None = None) -> None:
        self._answers = list(answers)
        self._error = error
        self.calls: list[tuple[Any, ...]] = []

    def __getattr__(self, name: str) -> Callable[..., Awaitable[Any]]:
        async def call(*arguments: Any) -> Any:
            self.calls.append((name, *arguments))
            if self._error is not None:
                raise self._error
            return self._answers.pop(0)

        return call
