"""`ratus tasks`."""

from typing import TYPE_CHECKING

import click

from ratus.commands.options import Server, printed, remote
from ratus.commands.output import Output
from ratus.commands.paging import pages
from ratus.commands.parameters import STATE, state_number
from ratus.model import Task

if TYPE_CHECKING:
    from ratus.commands.connection import Client


@click.command("tasks")
@click.argument("topic", default="")
@click.option("--id", "id", help="Only the task of this ID, with all that it has.")
@click.option("--state", type=STATE, help="Only tasks in this state.")
@click.option("--limit", type=click.IntRange(1), default=100, show_default=True, help="Most tasks to list.")
@click.option("--all", "everything", is_flag=True, help="Without a limit; see also `ratus export`.")
@remote
@printed
def command(
    server: Server, out: Output, topic: str, id: str | None, state: str | None, limit: int, everything: bool
) -> None:
    """List tasks, or show one.

    They come by their IDs, those of a topic or of all.

    \b
    Examples:
      ratus tasks mail
      ratus tasks --state archived --limit 10
      ratus tasks --id hello-ada
    """
    if id and (topic or state):
        raise click.UsageError("--id already says which task")
    if id:
        out.task(server.run(lambda client: client.calls.get_task(id)))
        return
    wanted = state_number(state)

    async def show(client: "Client") -> None:
        left = None if everything else limit
        table: list[Task] = []
        # Without a state the server need not read more than is wanted.
        read = pages(lambda page: client.calls.list_tasks(topic, page), most=left if wanted is None else None)
        async for page in read:
            found = [task for task in page.items if wanted in (None, task.state)][:left]
            if out.human:
                table += found
            else:
                out.tasks(found)
            if left is not None:
                left -= len(found)
                if not left:
                    break
        if out.human:
            out.tasks(table)
            if left == 0:
                out.say(f"There may be more: say --limit or --all for more than {limit}.")

    server.run(show)
