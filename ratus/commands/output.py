"""Answers: tables on a terminal; JSON, one value a line, for everything else."""

import sys
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

import click
import msgspec

from ratus import times
from ratus.commands.parameters import state_name
from ratus.model import Task

if TYPE_CHECKING:
    from rich.table import Table

Cell = str | int | float
LONG: Final = 60  # characters of a payload in a table


class Output:
    """Where a command answers; `human` is for a terminal."""

    def __init__(self, *, as_json: bool) -> None:
        self._stdout = sys.stdout.buffer
        self.human = not as_json and sys.stdout.isatty()

    def json(self, *values: Any) -> None:
        """Each value on a line, seen at once by who reads."""
        encode = msgspec.json.encode
        self._stdout.write(b"".join(encode(value) + b"\n" for value in values))
        self._stdout.flush()

    def say(self, text: str) -> None:
        """A line for people."""
        click.echo(text)

    def table(self, columns: Sequence[str], rows: Iterable[Sequence[Cell]]) -> None:
        """A table for people."""
        from rich.console import Console

        Console(highlight=False).print(table(columns, rows))

    def task(self, task: Task) -> None:
        """A task, with all that it has."""
        if not self.human:
            self.json(task)
            return
        fields: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(task))
        fields["state"] = state_name(task.state)
        fields["payload"] = "" if task.payload is None else bytes(task.payload).decode()
        self.table(("field", "value"), [(name, str(value)) for name, value in fields.items() if value != ""])

    def tasks(self, tasks: Sequence[Task]) -> None:
        """Some tasks, with what matters most."""
        if not self.human:
            self.json(*tasks)
            return
        now = times.now()
        self.table(
            ("id", "topic", "state", "scheduled", "consumer", "deadline", "payload"),
            [
                (
                    task.id,
                    task.topic,
                    state_name(task.state),
                    ago(task.scheduled, now),
                    task.consumer,
                    ago(task.deadline, now),
                    short(b"" if task.payload is None else bytes(task.payload)),
                )
                for task in tasks
            ],
        )


def table(columns: Sequence[str], rows: Iterable[Sequence[Cell]]) -> "Table":
    """A table; numbers stand at the right."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    cells = [list(row) for row in rows]
    result = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for index, name in enumerate(columns):
        is_number = bool(cells) and all(isinstance(row[index], int | float) for row in cells)
        result.add_column(name, justify="right" if is_number else "left", overflow="fold")
    for row in cells:
        result.add_row(*(Text(cell) if isinstance(cell, str) else Text(_number(cell)) for cell in row))
    return result


def _number(value: int | float) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:,.1f}"


def ago(moment: datetime | None, now: datetime) -> str:
    """How long ago a moment was, or how long it is until then, as people say it."""
    if moment is None:
        return ""
    span = abs(now - moment)
    if span < timedelta(seconds=1):
        return "now"
    text = _rough(span)
    return f"{text} ago" if moment < now else f"in {text}"


def _rough(span: timedelta) -> str:
    seconds = int(span.total_seconds())
    for unit, size in (("d", 86_400), ("h", 3600), ("m", 60)):
        if seconds >= 2 * size:
            return f"{seconds // size}{unit}"
    return f"{seconds}s"


def short(payload: bytes) -> str:
    """The begin of a payload."""
    text = payload[: 4 * LONG].decode(errors="replace")
    return text if len(text) <= LONG and len(payload) <= 4 * LONG else f"{text[:LONG]}…"
