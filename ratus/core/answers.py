"""How many tasks fit into one answer."""

from collections.abc import Sequence
from typing import Final

from ratus.config import MAX_ANSWER_BYTES
from ratus.core.windows import size_of
from ratus.model import Task

_ENVELOPE: Final = 128  # bytes, more than a task's fields take beside its names and payload


def room_in_answer(tasks: Sequence[Task], used: int = 0) -> int:
    """The number of tasks that fit into one answer, at least one."""
    for index, task in enumerate(tasks):
        used += size_of(task) + 4 * (len(task.id) + len(task.topic) + len(task.producer) + len(task.consumer))
        used += _ENVELOPE
        if used > MAX_ANSWER_BYTES and index:
            return index
    return len(tasks)
