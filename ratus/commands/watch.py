"""`ratus watch`."""

import asyncio
import time
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final

import click
import msgspec

from ratus.commands.options import Server, printed, remote
from ratus.commands.output import Cell, Output, table
from ratus.commands.paging import items
from ratus.commands.parameters import DURATION
from ratus.commands.topics import COLUMNS, as_json, cells
from ratus.errors import Unavailable
from ratus.model import TopicStats

if TYPE_CHECKING:
    from rich.console import RenderableType

    from ratus.commands.connection import Client

_TOPICS: Final = 50  # of all, so that a look stays cheap


class Look(msgspec.Struct, frozen=True):
    """What was seen of the topics, and when."""

    stats: Mapping[str, TopicStats]
    time: datetime  # of the server
    clock: float

    def rates(self, topic: str, last: "Look | None") -> tuple[float, float]:
        """Tasks that came and tasks that were completed or archived a second since the last look.

        What was deleted or expired meanwhile hides as many.
        """
        if last is None or topic not in last.stats:
            return 0.0, 0.0
        seconds = max(self.clock - last.clock, 0.001)
        now, before = self.stats[topic], last.stats[topic]
        return max(_all(now) - _all(before), 0) / seconds, max(_done(now) - _done(before), 0) / seconds


def _done(stats: TopicStats) -> int:
    return stats.completed + stats.archived


def _all(stats: TopicStats) -> int:
    return stats.pending + stats.active + _done(stats)


@click.command("watch")
@click.argument("topics", metavar="[TOPIC]...", nargs=-1)
@click.option("--interval", type=DURATION, default="1s", show_default=True, help="Time between two looks.")
@click.option("--count", type=click.IntRange(1), help="End after so many looks.")
@remote
@printed
def command(server: Server, out: Output, topics: tuple[str, ...], interval: timedelta, count: int | None) -> None:
    """Watch how topics are doing.

    Counts, rates, and how long the oldest due task has been waiting.

    Without topics the first 50 of all are shown. Ctrl-C ends it.

    \b
    Examples:
      ratus watch
      ratus watch mail --interval 200ms
      ratus watch --count 1 --json
    """
    if interval <= timedelta(0):
        raise click.UsageError("--interval must be positive")
    watching = _live if out.human else _lines
    server.run(lambda client: watching(client, out, topics, interval.total_seconds(), count))


async def _look(client: "Client", topics: tuple[str, ...]) -> Look:
    calls = client.calls
    names = topics or [topic.name for topic in await items(calls.list_topics, _TOPICS)]
    now = (await calls.get_server_info()).time
    stats = await asyncio.gather(*(calls.get_topic_stats(name) for name in names))
    return Look(dict(zip(names, stats, strict=True)), now, time.monotonic())


async def _lines(client: "Client", out: Output, topics: tuple[str, ...], seconds: float, count: int | None) -> None:
    """A line of JSON for each topic and look."""
    last: Look | None = None
    looks = 0
    while True:
        look = await _look(client, topics)
        for name, stats in look.stats.items():
            came, done = look.rates(name, last)
            rates = {"produced_per_second": round(came, 1), "done_per_second": round(done, 1)}
            out.json({"time": look.time, **as_json(name, stats), **rates})
        last, looks = look, looks + 1
        if looks == count:
            return
        await asyncio.sleep(seconds)


async def _live(client: "Client", out: Output, topics: tuple[str, ...], seconds: float, count: int | None) -> None:
    """A table that changes in place, and stays while the server is away."""
    from rich.console import Console, Group
    from rich.live import Live

    last = look = await _look(client, topics)
    looks = 1
    with Live(_table(look, None), console=Console(), auto_refresh=False) as live:
        live.refresh()
        while looks != count:
            await asyncio.sleep(seconds)
            shown: RenderableType
            try:
                look = await _look(client, topics)
            except Unavailable as error:
                shown = Group(_table(last, None), f"{client.target}: {error}; looking again")
            else:
                shown, last = _table(look, last), look
            live.update(shown, refresh=True)
            looks += 1


def _table(look: Look, last: Look | None) -> "RenderableType":
    rows: list[tuple[Cell, ...]] = []
    for name, stats in look.stats.items():
        came, done = look.rates(name, last)
        rows.append((*cells(name, stats, look.time), came, done))
    return table((*COLUMNS, "in/s", "done/s"), rows)
