"""`ratus topics`."""

from datetime import datetime
from typing import TYPE_CHECKING

import click

from ratus.commands.options import Server, printed, remote
from ratus.commands.output import Cell, Output, ago
from ratus.commands.paging import items
from ratus.model import Topic, TopicStats

if TYPE_CHECKING:
    from ratus.commands.connection import Client

COLUMNS = ("topic", "pending", "due", "active", "completed", "archived", "oldest due", "next", "waiting")


@click.command("topics")
@click.argument("topics", metavar="[TOPIC]...", nargs=-1)
@click.option("--stats", is_flag=True, help="With counts by state and times, as when topics are named.")
@remote
@printed
def command(server: Server, out: Output, topics: tuple[str, ...], stats: bool) -> None:
    """List the topics, or tell how some are doing.

    \b
    Examples:
      ratus topics
      ratus topics --stats
      ratus topics mail pages
    """

    async def listed(client: "Client") -> list[Topic]:
        return await items(client.calls.list_topics)

    async def told(client: "Client") -> tuple[list[tuple[str, TopicStats]], datetime]:
        names = topics or [topic.name for topic in await listed(client)]
        now = (await client.calls.get_server_info()).time
        return [(name, await client.calls.get_topic_stats(name)) for name in names], now

    if not (stats or topics):
        found = server.run(listed)
        if out.human:
            out.table(("topic", "tasks"), [(topic.name, topic.count) for topic in found])
        else:
            out.json(*found)
        return
    known, now = server.run(told)
    if out.human:
        out.table(COLUMNS, [cells(name, of, now) for name, of in known])
    else:
        out.json(*(as_json(name, of) for name, of in known))


def cells(name: str, stats: TopicStats, now: datetime) -> tuple[Cell, ...]:
    """The row of a topic in a table."""
    return (
        name,
        stats.pending,
        stats.due,
        stats.active,
        stats.completed,
        stats.archived,
        ago(stats.oldest_due, now),
        ago(stats.next_scheduled, now),
        stats.waiting_consumers,
    )


def as_json(name: str, stats: TopicStats) -> dict[str, object]:
    """The statistics of a topic with its name; times that are missing are left out."""
    fields = {field: getattr(stats, field) for field in stats.__struct_fields__}
    return {"name": name, **{field: value for field, value in fields.items() if value is not None}}
