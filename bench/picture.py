"""The table as a picture: a chart for every section, a bar for the median, a line from the least to the most.

`python -m bench.picture RESULTS.json PICTURE.svg [TITLE …]` draws what was kept, or the sections whose titles begin so.
"""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import matplotlib as mpl
from matplotlib.figure import Figure

from bench.results import Row, load, number

COLOURS: Final = {"floor": "#b8bec8", "ours": "#2f6fbd", "peer": "#e09f3e"}
INK: Final = "#3a3f47"
BAR: Final = 0.24  # inches a bar takes
TITLE: Final = 0.55  # and the title of a chart
WIDTH: Final = 9.0
STABLE: Final = {"svg.hashsalt": "ratus", "svg.fonttype": "none", "font.family": "sans-serif", "font.size": 9}


def draw(path: Path, about: Mapping[str, str], rows: Sequence[Row]) -> None:
    """Draw what was measured; what was not is left out."""
    sections: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        if row.values:
            sections.setdefault((row.section, row.unit), []).append(row)
    heights = [len(part) * BAR + TITLE for part in sections.values()]
    with mpl.rc_context(STABLE):
        figure = Figure(figsize=(WIDTH, sum(heights) + TITLE), layout="constrained")
        charts = figure.subplots(max(1, len(sections)), 1, squeeze=False, height_ratios=heights or None)
        for [chart], (title, part) in zip(charts, sections.items(), strict=False):
            _chart(chart, f"{title[0]} ({title[1]})", part)
        figure.supxlabel("\n".join(about.values()), fontsize=7, color=INK)
        figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None)


def _chart(chart: Any, title: str, rows: Sequence[Row]) -> None:
    places = range(len(rows))
    spread = [[row.median - min(row.values) for row in rows], [max(row.values) - row.median for row in rows]]
    chart.barh(
        places,
        [row.median for row in rows],
        height=0.7,
        color=[COLOURS[_kind(row)] for row in rows],
        xerr=spread,
        error_kw={"ecolor": INK, "elinewidth": 1},
    )
    for place, row in zip(places, rows, strict=True):
        chart.annotate(
            number(row.median), (max(row.values), place), (4, 0), textcoords="offset points", va="center", color=INK
        )
    chart.set_title(title, loc="left", fontsize=9, fontweight="bold", color=INK)
    chart.set_yticks(places, [row.name for row in rows])
    chart.set_ylim(len(rows) - 0.5, -0.5)
    chart.margins(x=0.12)
    chart.xaxis.set_visible(False)
    chart.tick_params(length=0)
    for edge in ("top", "right", "bottom"):
        chart.spines[edge].set_visible(False)


def _kind(row: Row) -> str:
    kind = row.name.partition(":")[0]
    return kind if kind in COLOURS else "ours"


if __name__ == "__main__":
    told, kept = load(Path(sys.argv[1]))
    draw(Path(sys.argv[2]), told, [row for row in kept if row.section.startswith(tuple(sys.argv[3:]) or "")])
