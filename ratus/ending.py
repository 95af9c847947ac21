"""The end of tasks of the event loop that would go on by themselves."""

import asyncio
from typing import Any, Final

_PATIENCE: Final = 1.0  # seconds


async def cancel(*tasks: "asyncio.Task[Any]") -> None:
    """Cancel tasks, again and again, until all have ended.

    A cancellation can get lost: before Python 3.12 `asyncio.wait_for`, with which the driver of MongoDB waits, swallows
    one that comes just when what it waits for is done.
    """
    while running := [task for task in tasks if not task.done()]:
        for task in running:
            task.cancel()
        await asyncio.wait(running, timeout=_PATIENCE)
