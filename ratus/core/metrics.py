"""Metrics of tasks and chores, with the names and labels of the original Ratus."""

from collections.abc import Sequence
from datetime import datetime, timedelta

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from ratus.metrics import BUCKETS, Bounded
from ratus.model import Task

_SECOND = timedelta(seconds=1)


class CoreMetrics:
    """What the core counts."""

    def __init__(self, registry: CollectorRegistry) -> None:
        who = ("topic", "producer", "consumer")
        self.chore_duration = Histogram(
            "ratus_chore_duration_seconds", "Duration of the background jobs", buckets=BUCKETS, registry=registry
        )
        self._schedule_delay = Bounded(
            Gauge(
                "ratus_task_schedule_delay_seconds",
                "Time between the scheduled and the actual begin of the last task",
                who,
                registry=registry,
            ),
            chosen=3,
        )
        self._execution_duration = Bounded(
            Gauge(
                "ratus_task_execution_duration_seconds",
                "Time between the begin and the commit of the last task",
                who,
                registry=registry,
            ),
            chosen=3,
        )
        self._produced = Bounded(
            Counter("ratus_task_produced_count", "Tasks that were created", who[:2], registry=registry), chosen=2
        )
        self._consumed = Bounded(
            Counter("ratus_task_consumed_count", "Tasks that were claimed", who, registry=registry), chosen=3
        )
        self._committed = Bounded(
            Counter("ratus_task_committed_count", "Tasks that were committed", who, registry=registry), chosen=3
        )

    def produced(self, tasks: Sequence[Task]) -> None:
        """Tasks were created."""
        for task in tasks:
            self._produced.labels(task.topic, task.producer).inc()

    def consumed(self, tasks: Sequence[Task]) -> None:
        """Tasks were claimed."""
        for task in tasks:
            assert task.consumed is not None  # they have just been claimed
            self._consumed.labels(task.topic, task.producer, task.consumer).inc()
            delay = (task.consumed - task.scheduled) / _SECOND
            self._schedule_delay.labels(task.topic, task.producer, task.consumer).set(delay)

    def committed(self, task: Task, now: datetime) -> None:
        """A task was committed."""
        self._committed.labels(task.topic, task.producer, task.consumer).inc()
        if task.consumed is not None:
            duration = (now - task.consumed) / _SECOND
            self._execution_duration.labels(task.topic, task.producer, task.consumer).set(duration)
