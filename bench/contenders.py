"""Contenders take turns, so that all of them see the same machine."""

import contextlib
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass

from bench.results import Row

Run = Callable[[], Sequence[float]]  # one run: a value for each section


class Missing(Exception):
    """What a contender needs is not installed; says how to get it."""


class Failed(Exception):
    """A contender did not do the work."""


@dataclass(frozen=True, slots=True)
class Section:
    """What is measured, and in what."""

    title: str
    unit: str


@dataclass(frozen=True, slots=True)
class Contender:
    """Somebody who does the work. `start` brings up what it needs, until the stack ends, or raises Missing."""

    name: str
    start: Callable[[ExitStack], Run]
    against: str = ""  # whom its ratio is to; nobody means the first contender
    note: str = ""


def compare(sections: Sequence[Section], contenders: Sequence[Contender], runs: int) -> list[Row]:
    """Start all contenders, let them run in turn, so many times; the rows of the sections, one after the other."""
    runners: dict[str, Run] = {}
    troubles: dict[str, str] = {}
    values: dict[str, list[Sequence[float]]] = {contender.name: [] for contender in contenders}
    with contextlib.ExitStack() as stack:
        for contender in contenders:
            try:
                runners[contender.name] = contender.start(stack)
            except Missing as missing:
                troubles[contender.name] = f"not installed: {missing}"
            except Failed as failed:
                troubles[contender.name] = f"failed: {failed}"
        for number in range(1, runs + 1):
            for name, run in runners.items():
                if name in troubles:
                    continue
                os.sync()  # so that nobody's disk is busy with what the one before has left to be written
                try:
                    values[name].append(run())
                except Failed as failed:
                    troubles[name] = f"failed: {failed}"
                say(f"{sections[0].title}: {name}, run {number} of {runs}: {_short(values[name], name, troubles)}")
    first = contenders[0].name
    return [
        Row(
            section=section.title,
            unit=section.unit,
            name=contender.name,
            values=() if contender.name in troubles else tuple(run[index] for run in values[contender.name]),
            against=contender.against or first,
            note=troubles.get(contender.name, contender.note),
        )
        for index, section in enumerate(sections)
        for contender in contenders
    ]


def _short(values: Sequence[Sequence[float]], name: str, troubles: dict[str, str]) -> str:
    return troubles.get(name) or ", ".join(f"{value:,.2f}" for value in values[-1])


def has_failed(rows: Sequence[Row]) -> bool:
    """Whether a contender did not do the work."""
    return any(row.note.startswith("failed: ") for row in rows)


def say(line: str) -> None:
    """Tell how far the measuring has come."""
    print(line, file=sys.stderr, flush=True)


def client(module: str, *arguments: object, timeout: float) -> str:
    """Run a module as a process of its own; what it printed. Failed if it does not end well, and in time."""
    command = [sys.executable, "-m", module, *map(str, arguments)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=timeout)
    except subprocess.TimeoutExpired:
        raise Failed(f"{module} took more than {timeout:.0f} s") from None
    if done.returncode:
        raise Failed(f"{module}: {done.stderr.strip().splitlines()[-1:]}")
    return done.stdout
