"""What all our Prometheus metrics share: the buckets, and a bound on the label values that clients choose."""

from typing import Final, Generic, TypeVar

from prometheus_client import Counter, Gauge, Histogram

M = TypeVar("M", Counter, Gauge, Histogram)

BUCKETS: Final = (0.01, 0.1, 0.5, 1, 2, 5)  # seconds
MAX_LABEL_SETS: Final = 1000
OTHER: Final = "other"


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
