"""What all our Prometheus metrics share: their registry, the buckets, and a bound on labels that clients choose."""

import os
from collections.abc import Iterable
from typing import Final, Generic, TypeVar

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    GCCollector,
    Histogram,
    Metric,
    PlatformCollector,
    ProcessCollector,
    values,
)
from prometheus_client.multiprocess import MultiProcessCollector

M = TypeVar("M", Counter, Gauge, Histogram)

BUCKETS: Final = (0.01, 0.1, 0.5, 1, 2, 5)  # seconds
MAX_LABEL_SETS: Final = 1000
OTHER: Final = "other"


def own_registry() -> CollectorRegistry:
    """A registry for the metrics of a server in one process, and of the process itself."""
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    PlatformCollector(registry=registry)
    GCCollector(registry=registry)
    return registry


class SharedRegistry(CollectorRegistry):
    """Registers the metrics of one of several workers, and collects those of all from a directory that they share.

    Make it before any metric. Whoever takes the place of a worker under the same `number` goes on with its values, so
    that counters never fall and files do not pile up.
    """

    def __init__(self, directory: str, number: int) -> None:
        super().__init__()
        # The library leaves no other way to say where values are kept, and by whom.
        os.environ["PROMETHEUS_MULTIPROC_DIR"] = directory
        values.ValueClass = values.MultiProcessValue(lambda: number)  # type: ignore[no-untyped-call]
        self._platform = PlatformCollector(registry=None)
        self._workers = MultiProcessCollector(None, directory)  # type: ignore[no-untyped-call]

    def collect(self) -> Iterable[Metric]:
        """The sums over all workers; of gauges the value that was set last."""
        yield from self._platform.collect()
        yield from self._workers.collect()  # type: ignore[no-untyped-call]


class Bounded(Generic[M]):
    """A metric whose first `chosen` labels hold values that clients choose.

    The first 1,000 label sets are kept as they are; after that a new set reads `other` for the chosen ones, so that
    clients cannot fill the memory.
    """

    def __init__(self, metric: M, chosen: int) -> None:
        self._metric: M = metric
        self._chosen = chosen
        self._children: dict[tuple[str, ...], M] = {}

    def labels(self, *values: str) -> M:
        """The child for these label values, in the order of the metric's label names."""
        child = self._children.get(values)
        if child is None:
            if len(self._children) >= MAX_LABEL_SETS:
                return self._child((OTHER,) * self._chosen + values[self._chosen :])
            child = self._children[values] = self._child(values)
        return child

    def _child(self, values: tuple[str, ...]) -> M:
        child: M = self._metric.labels(*values)
        return child
