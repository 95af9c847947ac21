"""What the workers of Celery and RQ run."""

import time
from pathlib import Path
from typing import Final

REDIS: Final = "BENCH_REDIS"  # the variable of the environment that has the URL


def work(payload: str, sent: float, where: str) -> None:
    """Note how long the way took, in milliseconds, if told where."""
    if where:
        with Path(where).open("a") as file:
            file.write(f"{(time.perf_counter() - sent) * 1000}\n")
