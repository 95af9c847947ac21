"""`ratus delete`."""

from typing import TYPE_CHECKING

import click

from ratus.commands.ask import confirm
from ratus.commands.failures import Exit, Failure
from ratus.commands.options import Server, printed, remote
from ratus.commands.output import Output
from ratus.commands.parameters import STATE, state_number

if TYPE_CHECKING:
    from ratus.commands.connection import Client


@click.command("delete")
@click.argument("topic", required=False)
@click.option("--state", type=STATE, help="Only the tasks of TOPIC in this state.")
@click.option("--id", "id", help="The task of this ID.")
@click.option("--all", "everything", is_flag=True, help="All tasks of all topics.")
@click.option("--yes", is_flag=True, help="Do not ask. Nobody is asked but at a terminal.")
@remote
@printed
def command(
    server: Server, out: Output, topic: str | None, state: str | None, id: str | None, everything: bool, yes: bool
) -> None:
    """Delete a task, the tasks of a topic, or everything.

    \b
    Examples:
      ratus delete mail --state completed
      ratus delete --id hello-ada
      ratus delete --all
    """
    if (bool(topic) + bool(id) + everything) != 1:
        raise click.UsageError("say one of TOPIC, --id and --all")
    if state and not topic:
        raise click.UsageError("--state is for a TOPIC")
    if id:
        what = f"task {id}"
    elif everything:
        what = "ALL tasks of ALL topics"
    else:
        what = f"the {f'{state} ' if state else ''}tasks of topic {topic}"
    confirm(f"Delete {what} at {server.target}?", yes=yes)

    async def delete(client: "Client") -> int:
        if id:
            return await client.calls.delete_task(id)
        if everything:
            return await client.calls.delete_topics()
        return await client.calls.delete_tasks(topic or "", state_number(state))

    deleted = server.run(delete)
    if id and not deleted:
        raise Failure(f"there is no task {id}", Exit.NOT_FOUND)
    if out.human:
        out.say(f"deleted {deleted:,} {'task' if deleted == 1 else 'tasks'}")
    else:
        out.json({"deleted": deleted})
