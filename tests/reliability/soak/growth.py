"""Whether something grows: a line through what one process of the server was seen to take."""

from collections.abc import Callable, Sequence
from statistics import linear_regression, mean
from typing import Final

from tests.reliability.soak.watch import Sample

WARM_UP: Final = 0.25  # of the time of the process
LEAST: Final = 8  # samples
AN_HOUR: Final = 3600
WHAT: Final[dict[str, tuple[Callable[[Sample], float], str]]] = {
    "resident memory": (lambda sample: sample.resident, "MiB"),
    "anonymous memory": (lambda sample: sample.anonymous, "MiB"),
    "descriptors": (lambda sample: sample.descriptors, ""),
    "threads": (lambda sample: sample.threads, ""),
    "log": (lambda sample: sample.log, "MiB"),
    "database": (lambda sample: sample.database, "MiB"),
}


def longest(samples: Sequence[Sample]) -> list[Sample]:
    """Those of the process that lived longest, once it had warmed up."""
    of: dict[int, list[Sample]] = {}
    for sample in samples:
        if sample.descriptors:
            of.setdefault(sample.process, []).append(sample)
    if not of:
        return []
    mine = max(of.values(), key=lambda found: found[-1].at - found[0].at)
    begin = mine[0].at + WARM_UP * (mine[-1].at - mine[0].at)
    return [sample for sample in mine if sample.at >= begin]


def growth(samples: Sequence[Sample]) -> list[str]:
    """A line of text for everything that could grow."""
    seen = longest(samples)
    if len(seen) < LEAST:
        return [f"growth: {len(seen)} samples of one process, too few to tell"]
    minutes = (seen[-1].at - seen[0].at) / 60
    lines = [f"growth of one process within {minutes:.1f} min after its warm-up:"]
    half = len(seen) // 2
    for what, (value, unit) in WHAT.items():
        values = [value(sample) for sample in seen]
        slope = linear_regression([sample.at for sample in seen], values).slope * AN_HOUR
        lines.append(
            f"  {what}: {slope:+.1f} {unit} an hour (first half {mean(values[:half]):.1f}, "
            f"second {mean(values[half:]):.1f}, least {min(values):.1f}, most {max(values):.1f})"
        )
    return lines
