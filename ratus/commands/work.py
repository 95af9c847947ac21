"""`ratus work`."""

import asyncio
import signal
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import click

from ratus.commands.options import Server, remote
from ratus.commands.parameters import DURATION

if TYPE_CHECKING:
    from ratus.commands.connection import Client


class _Statuses(click.ParamType[frozenset[int]]):
    name = "status,…"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> frozenset[int]:
        if isinstance(value, frozenset):
            return value
        try:
            statuses = frozenset(int(part) for part in str(value).split(","))
        except ValueError:
            self.fail("write it as 65 or 65,66", param, ctx)
        if not statuses <= frozenset(range(1, 256)):
            self.fail("exit statuses are between 1 and 255", param, ctx)
        return statuses


@click.command("work")
@click.argument("topics", metavar="TOPIC...", nargs=-1, required=True)
@click.option("--exec", "shell", required=True, metavar="COMMAND", help="What to run for each task, by /bin/sh.")
@click.option(
    "--concurrency", type=click.IntRange(1, 1000), default=1, show_default=True, help="Most commands at once."
)
@click.option(
    "--timeout", type=DURATION, default="1m", show_default=True, help="Of the promises, which are extended in time."
)
@click.option("--retry", type=DURATION, help="Execute a task that has failed again after this time. Default: at once.")
@click.option("--archive-on", type=_Statuses(), default=frozenset(), help="Exit statuses that archive the task.")
@click.option("--text", "is_text", is_flag=True, help="A payload that is a text comes without its quotes.")
@click.option("--consumer", default="", help="Who executes the tasks. Default: this host and process.")
@click.option("--count", type=click.IntRange(1), help="End after so many tasks.")
@click.option("--idle", type=DURATION, help="End when there has been nothing to do for so long.")
@click.option(
    "--grace",
    type=DURATION,
    default="30s",
    show_default=True,
    help="How long commands may take yet once it is told to end.",
)
@click.option("--verbose", is_flag=True, help="Tell of what succeeds too.")
@remote
def command(server: Server, topics: tuple[str, ...], **given: Any) -> None:
    """Run a command for each task of some topics.

    The payload comes on stdin, as JSON. RATUS_ID, RATUS_TOPIC, RATUS_NONCE, RATUS_PRODUCER, RATUS_CONSUMER,
    RATUS_SCHEDULED and RATUS_DEADLINE tell about the task. Exit status 0 completes it; another one gives it back, or
    has it executed again after --retry. While the command runs the promise is extended; if it is lost, since somebody
    else has got the task, the command is stopped.

    SIGTERM and Ctrl-C let commands finish, for --grace at most; a second one stops them. What did not finish is
    given back.

    \b
    Examples:
      ratus work mail --exec './send-mail.sh' --concurrency 10 --retry 30s
      ratus work thumbnails --exec 'jq -r .url | xargs curl -sO' --archive-on 65
      ratus work mail --exec 'cat' --idle 1s
    """
    if given["timeout"] < timedelta(seconds=1):
        raise click.UsageError("--timeout must be 1s at least")

    async def work(client: "Client") -> None:
        from ratus import logs
        from ratus.commands.worker import Orders, Worker
        from ratus.config import LogSettings

        await client.calls.get_server_info()  # at first it must be there; later it may come and go
        logs.configure(LogSettings("warning"))
        worker = Worker(Orders(topics=topics, server=server, **given))
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, worker.stop)
        await worker.run()

    server.run(work)
