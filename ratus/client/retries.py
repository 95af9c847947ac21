"""What happens to a task whose handler has failed."""

import logging
import random
from collections.abc import Callable
from datetime import timedelta
from typing import Any, Final, TypeAlias

from ratus.client.inputs import Duration, to_duration
from ratus.client.payloads import PayloadError, decode
from ratus.client.task import HeldTask

Policy: TypeAlias = Callable[[HeldTask[Any], BaseException], object]
"""Prepares the commit of a task whose handler has raised, such as `task.retry("30s")` or `task.archive()`."""

JITTER: Final = 0.1  # of a pause, more or less

_logger = logging.getLogger(__name__)


class Retry:
    """Has a failed task executed again after a pause.

        @queue.worker("fetch", retry=ratus.Retry("1s", factor=2, longest="1h", attempts=8, counter="attempts"))

    A task has no place of its own for the number of its attempts, and a payload is not altered unless you say so:
    `counter` names the key of the payload, a JSON object, in which failed attempts are counted. Without it every
    pause is the first one and there is no last attempt. A payload of the wrong type fails for good.

    Args:
        pause: The pause after the first attempt; all vary by a tenth.
        factor: How many times longer each pause is than the one before.
        longest: The longest pause.
        attempts: How many attempts a task gets; then it is archived.
        counter: The key that counts failed attempts.

    Raises:
        ValueError: for `factor` or `attempts` without a `counter`.
        BadRequest: for a malformed duration.
    """

    def __init__(
        self,
        pause: Duration = "5s",
        *,
        factor: float = 1.0,
        longest: Duration = "1h",
        attempts: int | None = None,
        counter: str = "",
    ) -> None:
        if not counter and (factor != 1 or attempts is not None):
            raise ValueError("factor and attempts need a counter, the key of the payload that counts attempts")
        self._pause = to_duration(pause, "pause")
        self._factor = factor
        self._longest = to_duration(longest, "longest")
        self._attempts = attempts
        self._counter = counter

    def __call__(self, task: HeldTask[Any], error: BaseException) -> None:
        """Prepare the commit of the task."""
        if isinstance(error, PayloadError):
            task.archive()
            return
        failed = self._count(task) if self._counter else 1
        if self._attempts is not None and failed >= self._attempts:
            task.archive()
            return
        task.retry(self._after(failed))

    def _count(self, task: HeldTask[Any]) -> int:
        """Count one more failed attempt."""
        payload: Any = decode(task.raw_payload)
        if not isinstance(payload, dict):
            _logger.warning("the attempts of task %r cannot be counted: its payload is no object", task.id)
            return 1
        before = payload.get(self._counter, 0)
        failed = 1 + (before if isinstance(before, int) and before > 0 else 0)
        task.payload = {**payload, self._counter: failed}
        return failed

    def _after(self, failed: int) -> timedelta:
        longest = self._longest.total_seconds()
        try:
            pause = min(self._pause.total_seconds() * self._factor ** (failed - 1), longest)
        except OverflowError:
            pause = longest
        return timedelta(seconds=pause * random.uniform(1 - JITTER, 1 + JITTER))  # noqa: S311 (it only spreads the load)
