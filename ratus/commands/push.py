"""`ratus push`."""

import uuid
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

import click

from ratus.commands.options import Server, printed, remote
from ratus.commands.output import Output
from ratus.commands.parameters import SIGNED_DURATION, TIME, read_payload
from ratus.model import TaskInput, Updated

if TYPE_CHECKING:
    from ratus.commands.connection import Client


@click.command("push")
@click.argument("topic")
@click.argument("payload", required=False)
@click.option("--id", "id", help="ID of the task, unique over all topics. Default: a random one.")
@click.option("--defer", type=SIGNED_DURATION, help="Execute it not before this time from now, such as 30s or 1h30m.")
@click.option("--scheduled", type=TIME, help="Execute it not before this time, such as 2030-01-31T12:00:00Z.")
@click.option("--producer", default="", help="Who produces it.")
@click.option("--upsert", is_flag=True, help="Replace a task that has the ID; without it that is an error.")
@click.option("--text", "is_text", is_flag=True, help="The payload is a text, not JSON.")
@remote
@printed
def command(
    server: Server,
    out: Output,
    topic: str,
    payload: str | None,
    id: str | None,
    defer: timedelta | None,
    scheduled: datetime | None,
    producer: str,
    upsert: bool,
    is_text: bool,
) -> None:
    """Push a task to a topic.

    PAYLOAD is JSON, @FILE to read it from a file, or - to read it from stdin.

    \b
    Examples:
      ratus push mail '{"to": "ada@example.com"}'
      ratus push mail --text 'Hello' --id hello-ada --defer 5m
      ratus push pages @page.json --id example.com --upsert
    """
    task = TaskInput(
        id=id or str(uuid.uuid4()),
        topic=topic,
        payload=read_payload(payload, is_text=is_text),
        defer=defer,
        scheduled=scheduled,
        producer=producer,
    )

    async def push(client: "Client") -> Updated:
        return await (client.calls.upsert_task(task) if upsert else client.calls.insert_task(task))

    done = server.run(push)
    if out.human:
        out.say(f"{'pushed' if done.created else 'replaced'} {task.id} in topic {topic}")
    else:
        out.json({"_id": task.id, "topic": topic, "created": done.created, "updated": done.updated})
