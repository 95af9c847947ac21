"""What was measured, and how it is told: medians of several runs, their spread, and ratios."""

import json
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

LEAST: Final = 10.0  # what is below is told with decimals


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table: one contender, measured in one way, several times."""

    section: str
    unit: str
    name: str
    values: tuple[float, ...] = ()  # one a run; none if it could not be measured
    against: str = ""  # the name of the row of the same section that the ratio is to; itself for a floor
    note: str = ""  # durability, or why there are no values

    @property
    def median(self) -> float:
        """The middle of the runs."""
        return statistics.median(self.values)


def ratio(row: Row, rows: Sequence[Row]) -> float | None:
    """The median as a ratio to that of the row it is to be compared with; None if one of them was not measured."""
    base = next((other for other in rows if (other.section, other.name) == (row.section, row.against)), None)
    if base is None or not base.values or not row.values or not base.median:
        return None
    return row.median / base.median


def number(value: float) -> str:
    """With as many digits as tell something."""
    if value >= LEAST:
        return f"{value:,.0f}"
    return f"{value:.2f}"


def table(rows: Sequence[Row]) -> str:
    """A table in Markdown, aligned so that it reads well as it is; a heading for every section."""
    header = ("", "median", "from – to", "ratio", "")
    lines: dict[str, list[tuple[str, ...]]] = {}
    for row in rows:
        lines.setdefault(f"{row.section} ({row.unit})", []).append(_cells(row, rows))
    everything = [
        header,
        *((f"**{title}**",) for title in lines),
        *(cells for part in lines.values() for cells in part),
    ]
    widths = [max(len(cells[column]) for cells in everything if column < len(cells)) for column in range(len(header))]
    text = [_line(header, widths), "|" + "|".join(_rule(column, width) for column, width in enumerate(widths)) + "|"]
    for title, part in lines.items():
        text.append(_line((f"**{title}**", "", "", "", ""), widths))
        text += [_line(cells, widths) for cells in part]
    return "\n".join(text)


def _cells(row: Row, rows: Sequence[Row]) -> tuple[str, ...]:
    if not row.values:
        return (row.name, "–", "", "", row.note)
    share = ratio(row, rows)
    spread = f"{number(min(row.values))} – {number(max(row.values))}"
    return (row.name, number(row.median), spread, "" if share is None else f"{share:.2f}", row.note)


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    aligned = [
        cell.rjust(width) if _is_number(column) else cell.ljust(width)
        for column, (cell, width) in enumerate(zip(cells, widths, strict=True))
    ]
    return f"| {' | '.join(aligned)} |"


def _rule(column: int, width: int) -> str:
    return " " + "-" * (width - 1) + ": " if _is_number(column) else " " + "-" * width + " "


def _is_number(column: int) -> bool:
    return 1 <= column <= 3


def save(path: Path, about: Mapping[str, str], rows: Sequence[Row]) -> None:
    """Keep the figures, and on what machine and with which versions they were measured."""
    path.write_text(json.dumps({"about": dict(about), "rows": [asdict(row) for row in rows]}, indent=1) + "\n")


def load(path: Path) -> tuple[dict[str, str], list[Row]]:
    """What was kept."""
    kept = json.loads(path.read_text())
    return kept["about"], [Row(**{**row, "values": tuple(row["values"])}) for row in kept["rows"]]
