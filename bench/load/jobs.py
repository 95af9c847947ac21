"""What the workers of Celery and RQ run, and the application of Celery, which finds Redis through the environment."""

import os
import time
from pathlib import Path

from celery import Celery

REDIS = "BENCH_REDIS"  # the URL
PREFETCH = 16  # tasks that each of two processes may hold, so that 32 are under way


def work(payload: str, sent: float, where: str) -> None:
    """Note how long the way took, in milliseconds, if told where."""
    if where:
        with Path(where).open("a") as file:
            file.write(f"{(time.perf_counter() - sent) * 1000}\n")


def application() -> Celery:
    """Tasks are acknowledged once they have run, and their results go nowhere."""
    app = Celery("bench", broker=os.environ.get(REDIS))
    app.conf.update(
        task_ignore_result=True,
        task_acks_late=True,
        worker_prefetch_multiplier=PREFETCH,
        broker_connection_retry_on_startup=True,
        broker_pool_limit=64,
    )
    app.task(work, name="work")
    return app
