"""Metrics of tasks and chores, with the names and labels of the original Ratus."""

from collections import Counter as Counted
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
                multiprocess_mode="mostrecent",
            ),
            chosen=3,
        )
        self._execution_duration = Bounded(
            Gauge(
                "ratus_task_execution_duration_seconds",
                "Time between the begin and the commit of the last task",
                who,
                registry=registry,
                multiprocess_mode="mostrecent",
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
        for (topic, producer), count in Counted((task.topic, task.producer) for task in tasks).items():
            self._produced.labels(topic, producer).inc(count)

    def consumed(self, tasks: Sequence[Task]) -> None:
        """Tasks were claimed."""
        for who, (count, last) in _by_labels(tasks).items():
            assert last.consumed is not None  # it has just been claimed
            self._consumed.labels(*who).inc(count)
            self._schedule_delay.labels(*who).set((last.consumed - last.scheduled) / _SECOND)

    def committed(self, tasks: Sequence[Task], now: datetime) -> None:
        """Tasks were committed."""
        for who, (count, last) in _by_labels(tasks).items():
            self._committed.labels(*who).inc(count)
            if last.consumed is not None:
                self._execution_duration.labels(*who).set((now - last.consumed) / _SECOND)


def _by_labels(tasks: Sequence[Task]) -> dict[tuple[str, str, str], tuple[int, Task]]:
    """The number of tasks for each set of label values, and the last of them."""
    found: dict[tuple[str, str, str], tuple[int, Task]] = {}
    for task in tasks:
        who = (task.topic, task.producer, task.consumer)
        seen = found.get(who)
        found[who] = (1 if seen is None else seen[0] + 1, task)
    return found
