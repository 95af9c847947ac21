"""`ratus commit`."""

from datetime import datetime, timedelta

import click
from msgspec import Raw

from ratus.commands.options import Server, printed, remote
from ratus.commands.output import Output
from ratus.commands.parameters import SIGNED_DURATION, STATE, TIME, read_payload, state_name, state_number
from ratus.model import Commit


@click.command("commit")
@click.argument("id")
@click.option("--nonce", default="", help="Commit only if this is still the task's nonce, as the claim has told it.")
@click.option("--state", type=STATE, default="completed", show_default=True, help="State to set.")
@click.option("--topic", default="", help="Move the task to this topic.")
@click.option("--defer", type=SIGNED_DURATION, help="Execute it not before this time from now.")
@click.option("--scheduled", type=TIME, help="Execute it not before this time.")
@click.option("--payload", help="Replace the payload: JSON, @FILE, or - for stdin.")
@click.option("--text", "is_text", is_flag=True, help="The payload is a text, not JSON.")
@remote
@printed
def command(
    server: Server,
    out: Output,
    id: str,
    nonce: str,
    state: str,
    topic: str,
    defer: timedelta | None,
    scheduled: datetime | None,
    payload: str | None,
    is_text: bool,
) -> None:
    """Commit a task: acknowledge it, and say what becomes of it.

    \b
    Examples:
      ratus commit hello-ada --nonce V1StGXR8Z5jdHi6B
      ratus commit example.com --nonce V1StGXR8Z5jdHi6B --state pending --defer 24h
      ratus commit example.com --topic parse --state pending --payload @page.json
    """
    text = read_payload(payload, is_text=is_text)
    given = Commit(
        id=id,
        nonce=nonce,
        state=state_number(state),
        topic=topic,
        defer=defer,
        scheduled=scheduled,
        payload=None if text is None else Raw(text),
    )
    task = server.run(lambda client: client.calls.commit_task(given))
    if out.human:
        out.say(f"{task.id} is {state_name(task.state)} in topic {task.topic}")
    else:
        out.json(task)
