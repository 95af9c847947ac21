"""The application of Celery, which `celery -A bench.load.celery_worker worker` runs."""

import os

from celery import Celery

from bench.load.jobs import REDIS, work

PREFETCH = 16  # tasks that each of two processes may hold, so that 32 are under way


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


app = application()
