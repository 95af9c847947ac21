"""`ratus claim`."""

import socket
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

import click

from ratus.commands.failures import Exit, Failure
from ratus.commands.options import Server, printed, remote
from ratus.commands.output import Output
from ratus.commands.parameters import DURATION, TIME
from ratus.model import ClaimRequest, Promise, Task

if TYPE_CHECKING:
    from ratus.commands.connection import Client


@click.command("claim")
@click.argument("topic", required=False)
@click.option("--limit", type=click.IntRange(1), default=1, show_default=True, help="Most tasks to claim.")
@click.option("--wait", type=DURATION, help="How long to wait for the first task, up to 10m.")
@click.option("--timeout", type=DURATION, help="How long the promise lasts. Default: 10m.")
@click.option("--deadline", type=TIME, help="When the promise ends; it wins over --timeout.")
@click.option("--consumer", default=socket.gethostname, help="Who executes the tasks. Default: this host.")
@click.option("--id", "id", help="Claim the task of this ID, due or not; no TOPIC then.")
@click.option("--force", is_flag=True, help="With --id: in whatever state it is, which voids the promise before.")
@remote
@printed
def command(
    server: Server,
    out: Output,
    topic: str | None,
    limit: int,
    wait: timedelta | None,
    timeout: timedelta | None,
    deadline: datetime | None,
    consumer: str,
    id: str | None,
    force: bool,
) -> None:
    """Claim due tasks of a topic, the earliest first.

    Each task comes with a nonce, which its commit needs. Ends with 3 when no task is due.

    \b
    Examples:
      ratus claim mail --timeout 30s
      ratus claim mail --limit 100 --wait 1m
      ratus claim --id example.com --force
    """
    if bool(topic) == bool(id):
        raise click.UsageError("say either a TOPIC or --id")
    if force and not id:
        raise click.UsageError("--force is for --id")

    async def claim(client: "Client") -> list[Task]:
        if id:
            promise = Promise(id=id, consumer=consumer, deadline=deadline, timeout=timeout)
            make = client.calls.upsert_promise if force else client.calls.insert_promise
            return [await make(promise)]
        return await client.calls.claim_tasks(
            ClaimRequest(
                topic=topic or "", consumer=consumer, deadline=deadline, timeout=timeout, limit=limit, wait=wait
            )
        )

    tasks = server.run(claim)
    if not tasks:
        raise Failure(f"no task of topic {topic} is due", Exit.NOT_FOUND)
    for task in tasks:
        out.task(task)
    if out.human:
        out.say(f"When it is done: ratus commit {tasks[0].id} --nonce {tasks[0].nonce}")
