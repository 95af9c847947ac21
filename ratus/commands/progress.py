"""Progress bars: on stderr, and only if that is a terminal."""

import contextlib
import sys
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.progress import Progress


class Bar:
    """A bar with a text at its end; without a terminal there is none."""

    def __init__(self, progress: "Progress | None" = None, task: Any = None) -> None:
        self._progress = progress
        self._task = task

    def show(self, completed: int, text: str, total: int | None = None) -> None:
        """So much is done; the total may be known only now."""
        if self._progress is not None:
            self._progress.update(self._task, completed=completed, text=text, total=total)


@contextlib.contextmanager
def bar(what: str, total: int | None, *, begin: int = 0) -> Iterator[Bar]:
    """A bar that fills up to a total, if that is known; `begin` was there before."""
    if not sys.stderr.isatty():
        yield Bar()
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        Progress,
        TaskProgressColumn,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TextColumn("{task.fields[text]}", markup=False),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), speed_estimate_period=10) as progress:
        yield Bar(progress, progress.add_task(what, total=total, completed=begin, text=""))


class Rate:
    """How many a second, on average since it was made."""

    def __init__(self) -> None:
        self._begin = time.monotonic()

    def of(self, count: int) -> str:
        """Such as `12,345/s`."""
        return f"{count / max(time.monotonic() - self._begin, 0.001):,.0f}/s"
