"""`ratus promises`."""

from datetime import timedelta
from typing import TYPE_CHECKING

import click

from ratus import times
from ratus.commands.ask import confirm
from ratus.commands.failures import Exit, Failure
from ratus.commands.options import Server, printed, remote
from ratus.commands.output import Output, ago
from ratus.commands.paging import items
from ratus.commands.parameters import DURATION
from ratus.errors import RatusError
from ratus.model import Extension, Promise

if TYPE_CHECKING:
    from ratus.commands.connection import Client


@click.command("promises")
@click.argument("topic", default="")
@click.option("--id", "id", help="Only the promise on the task of this ID.")
@click.option("--release", is_flag=True, help="Give back: the tasks are pending again.")
@click.option("--extend", type=DURATION, help="With --id: the promise lasts so long from now on.")
@click.option("--nonce", default="", help="With --id: only if this is still its nonce.")
@click.option("--limit", type=click.IntRange(1), help="Most promises to list.")
@click.option("--yes", is_flag=True, help="Do not ask before the promises of a whole topic are given back.")
@remote
@printed
def command(
    server: Server,
    out: Output,
    topic: str,
    id: str | None,
    release: bool,
    extend: timedelta | None,
    nonce: str,
    limit: int | None,
    yes: bool,
) -> None:
    """List promises, extend one, or give them back.

    A promise is what a consumer has on the task that it executes.

    \b
    Examples:
      ratus promises mail
      ratus promises --id hello-ada --extend 10m
      ratus promises --id hello-ada --release
      ratus promises mail --release
    """
    if id and topic:
        raise click.UsageError("say either a TOPIC or --id")
    if (extend is not None or nonce) and not id:
        raise click.UsageError("--extend and --nonce need --id")
    if extend is not None and release:
        raise click.UsageError("say either --extend or --release")
    if extend is not None:
        assert id is not None
        _show(out, [server.run(lambda client: _extend(client, id, nonce, extend))])
    elif release:
        _release(server, out, topic, id, nonce, yes=yes)
    elif id:
        _show(out, [server.run(lambda client: client.calls.get_promise(id))])
    else:
        read = server.run(lambda client: items(lambda page: client.calls.list_promises(topic, page), limit))
        _show(out, read)


async def _extend(client: "Client", id: str, nonce: str, timeout: timedelta) -> Promise:
    nonce = nonce or (await client.calls.get_task(id)).nonce
    if not nonce:
        raise Failure(f"there is no promise on task {id} that could be extended", Exit.CONFLICT)
    [refused] = await client.calls.extend_promises([Extension(id=id, nonce=nonce, timeout=timeout)])
    if isinstance(refused, RatusError):
        raise refused
    return await client.calls.get_promise(id)


def _release(server: Server, out: Output, topic: str, id: str | None, nonce: str, *, yes: bool) -> None:
    if id:
        count = server.run(lambda client: client.calls.delete_promise(id, nonce))
        if not count:
            raise Failure(f"there is no such promise on task {id}", Exit.NOT_FOUND)
    elif topic:
        confirm(f"Give back all promises in topic {topic}, whoever executes the tasks now?", yes=yes)
        count = server.run(lambda client: client.calls.delete_promises(topic))
    else:
        raise click.UsageError("--release needs a TOPIC or --id")
    if out.human:
        out.say(f"{count:,} {'task is' if count == 1 else 'tasks are'} pending again")
    else:
        out.json({"deleted": count})


def _show(out: Output, promises: list[Promise]) -> None:
    if not out.human:
        out.json(*promises)
        return
    now = times.now()
    out.table(("id", "consumer", "deadline"), [(each.id, each.consumer, ago(each.deadline, now)) for each in promises])
