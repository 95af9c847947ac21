"""A run over time as a picture, a chart for everything that was looked at, and a line where a fault was made.

`python -m tests.reliability.soak.picture SAMPLES.ndjson PICTURE.svg` draws a run, also one that did not reach its end.
"""

import sys
from collections.abc import Callable, Sequence
from math import nan
from pathlib import Path
from typing import Any, Final

import matplotlib as mpl
from matplotlib.figure import Figure

from tests.reliability.soak.meter import PERCENTILES
from tests.reliability.soak.watch import TIMES, Mark, Sample, load

STABLE: Final = {"svg.hashsalt": "ratus", "svg.fonttype": "none", "font.family": "sans-serif", "font.size": 8}
INK: Final = "#3a3f47"
FAULTS: Final = {
    "server killed": "#c0392b",
    "freeze": "#2f6fbd",
    "consumer killed": "#e09f3e",
    "streams dropped": "#7a8b3a",
    "step-down": "#8e44ad",
}
WIDTH, HEIGHT = 9.0, 1.35  # inches, of a chart
Lines = dict[str, Callable[[Sample], float]]

CHARTS: Final[dict[str, Lines]] = {
    "memory of the server (MiB)": {"resident": lambda s: s.resident or nan, "anonymous": lambda s: s.anonymous or nan},
    "descriptors and threads": {"descriptors": lambda s: s.descriptors or nan, "threads": lambda s: s.threads or nan},
    "files (MiB)": {"database": lambda s: s.database or nan, "log": lambda s: s.log or nan},
    "tasks": {
        "pending": lambda s: s.tasks.get("pending", nan),
        "active": lambda s: s.tasks.get("active", nan),
        "completed": lambda s: s.tasks.get("completed", nan),
    },
    "tasks a second": {
        "inserted": lambda s: s.rates.get("inserted", 0),
        "handed out": lambda s: s.rates.get("handed", 0),
        "committed": lambda s: s.rates.get("committed", 0),
    },
    "processor of the server (cores)": {"": lambda s: s.processor},
}
TITLES: Final = {
    "insert": "insert (ms, from when it was due)",
    "claim": "claim (ms)",
    "commit": "commit (ms)",
    "arrival": "scheduled to arrival (ms)",
}


def draw(path: Path, title: str, samples: Sequence[Sample], marks: Sequence[Mark]) -> None:
    """Draw what was seen."""
    charts = list(CHARTS.items()) + [(TITLES[what], _times(what)) for what in TIMES]
    minutes = [sample.at / 60 for sample in samples]
    with mpl.rc_context(STABLE):
        figure = Figure(figsize=(WIDTH, HEIGHT * len(charts) + 0.6), layout="constrained")
        axes = figure.subplots(len(charts), 1, sharex=True)
        for chart, (name, lines) in zip(axes, charts, strict=True):
            _chart(chart, name, lines, minutes, samples)
            for mark in marks:
                chart.axvline(mark.at / 60, color=FAULTS.get(mark.fault, INK), linewidth=0.7, linestyle="--")
            if name in TITLES.values():
                chart.set_yscale("log")
            else:
                chart.set_ylim(bottom=0)
        axes[-1].set_xlabel("minutes", color=INK)
        shown = dict.fromkeys(mark.fault for mark in marks)
        handles = [mpl.lines.Line2D([], [], color=FAULTS.get(name, INK), linestyle="--") for name in shown]
        figure.legend(handles, list(shown), loc="outside upper right", ncols=max(1, len(shown)), frameon=False)
        figure.suptitle(title, x=0.01, ha="left", fontsize=10, fontweight="bold", color=INK)
        figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None)


def _chart(chart: Any, name: str, lines: Lines, minutes: Sequence[float], samples: Sequence[Sample]) -> None:
    for label, value in lines.items():
        chart.plot(minutes, [value(sample) for sample in samples], linewidth=0.9, label=label)
    chart.set_title(name, loc="left", fontsize=8, fontweight="bold", color=INK)
    if len(lines) > 1:
        chart.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), frameon=False, handlelength=1)
    for edge in ("top", "right"):
        chart.spines[edge].set_visible(False)


def _times(what: str) -> Lines:
    def at(position: int) -> Callable[[Sample], float]:
        return lambda sample: sample.times[what][position] if what in sample.times else nan

    return {f"{share * 100:g} %": at(position) for position, share in enumerate(PERCENTILES)}


if __name__ == "__main__":
    draw(Path(sys.argv[2]), sys.argv[1], *load(Path(sys.argv[1])))
