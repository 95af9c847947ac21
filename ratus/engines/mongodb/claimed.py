"""What this process has claimed lately, so that commits need not read the tasks first."""

from collections.abc import Iterable
from typing import Final

from ratus.model import Task

_MAX_TASKS: Final = 20_000
_MAX_BYTES: Final = 32 * 1024 * 1024  # of payloads


class Claimed:
    """The tasks with the promises that were made on them here, the latest ones.

    What is stored may have changed since. So they are only good for a write that is guarded by
    `documents.PROMISE`, which says that nobody has changed the task.
    """

    def __init__(self) -> None:
        self._tasks: dict[str, Task] = {}
        self._bytes = 0

    def note(self, tasks: Iterable[Task]) -> None:
        """Remember tasks as they are after the promise."""
        for task in tasks:
            self._drop(task.id)
            self._tasks[task.id] = task
            self._bytes += size(task)
        while len(self._tasks) > _MAX_TASKS or self._bytes > _MAX_BYTES:
            self._drop(next(iter(self._tasks)))

    def get(self, id: str, nonce: str) -> Task | None:
        """The task that was claimed with this nonce, or with any if none is given; if it is remembered."""
        task = self._tasks.get(id)
        return task if task is not None and nonce in ("", task.nonce) else None

    def forget(self, ids: Iterable[str]) -> None:
        """Let go of tasks that were changed."""
        for id in ids:
            self._drop(id)

    def _drop(self, id: str) -> None:
        task = self._tasks.pop(id, None)
        if task is not None:
            self._bytes -= size(task)


def size(task: Task) -> int:
    """The bytes of its payload."""
    return 0 if task.payload is None else len(memoryview(task.payload))
