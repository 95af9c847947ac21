"""Metrics of tasks and chores, with the names and labels of the original Ratus."""

from collections import Counter as Counted
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from operator import attrgetter
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from ratus.metrics import BUCKETS, Bounded
from ratus.model import Task

_SECOND: Final = timedelta(seconds=1)
_PRODUCED_BY: Final[Callable[[Task], tuple[str, str]]] = attrgetter("topic", "producer")
_CONSUMED_BY: Final[Callable[[Task], tuple[str, str, str]]] = attrgetter("topic", "producer", "consumer")


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
        if len(tasks) == 1:  # the most frequent number
            self._produced.labels(tasks[0].topic, tasks[0].producer).inc()
            return
        for who, count in Counted(map(_PRODUCED_BY, tasks)).items():
            self._produced.labels(*who).inc(count)

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
    if len(tasks) == 1:
        return {_CONSUMED_BY(tasks[0]): (1, tasks[0])}
    whose = list(map(_CONSUMED_BY, tasks))
    last = dict(zip(whose, tasks, strict=True))
    return {who: (count, last[who]) for who, count in Counted(whose).items()}
