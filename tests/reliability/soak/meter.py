"""Counts and times of an interval, which clients in several processes tell together."""

import math
from collections import Counter
from dataclasses import dataclass, field
from typing import Final

_STEP: Final = math.log(1.05)  # a percentile is right within 5 %
_LEAST: Final = 0.01  # ms
PERCENTILES: Final = (0.5, 0.99, 0.999)


@dataclass(slots=True)
class Meter:
    """What happened since the last look; times in ms."""

    counts: Counter[str] = field(default_factory=Counter)
    times: dict[str, Counter[int]] = field(default_factory=dict)

    def took(self, what: str, milliseconds: float, times: int = 1) -> None:
        bucket = round(math.log(max(milliseconds, _LEAST)) / _STEP)
        self.times.setdefault(what, Counter())[bucket] += times

    def add(self, other: "Meter") -> None:
        self.counts.update(other.counts)
        for what, buckets in other.times.items():
            self.times.setdefault(what, Counter()).update(buckets)

    def percentiles(self, what: str) -> list[float] | None:
        """Those of PERCENTILES; None if nothing happened."""
        buckets = self.times.get(what)
        if not buckets:
            return None
        found, seen, total = [], 0, buckets.total()
        left = list(PERCENTILES)
        for bucket in sorted(buckets):
            seen += buckets[bucket]
            while left and seen >= left[0] * total:
                found.append(round(math.exp(bucket * _STEP), 3))
                left.pop(0)
        return found + [found[-1]] * len(left)
