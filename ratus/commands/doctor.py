"""`ratus doctor`."""

import time
import urllib.error
import urllib.request
from collections.abc import Callable
from datetime import datetime, timedelta
from statistics import median
from typing import TYPE_CHECKING, Final

import click
import msgspec

import ratus
from ratus import times
from ratus.commands.failures import Exit, Failure
from ratus.commands.options import Server, printed, remote
from ratus.commands.output import Output
from ratus.errors import RatusError, Unavailable
from ratus.model import Check, Outcome, ServerInfo

if TYPE_CHECKING:
    from ratus.commands.connection import Client

_CALLS: Final = 20  # to measure latency
_SLOW: Final = 0.1  # seconds
_SKEW: Final = timedelta(seconds=1)
_REST_TIMEOUT: Final = 5.0  # seconds
_SIGNS: Final = {Outcome.OK: ("ok", "green"), Outcome.WARNING: ("look", "yellow"), Outcome.FAILED: ("FAIL", "red")}


@click.command("doctor")
@click.option("--rest", metavar="URL", help="Look at a REST face too, such as http://127.0.0.1:8000.")
@click.option("--thorough", is_flag=True, help="Read the whole SQLite file for damage, which takes its time.")
@remote
@printed
def command(server: Server, out: Output, rest: str | None, thorough: bool) -> None:
    """Look at a server, and tell what is wrong.

    At the way to it and its storage too.

    Ends with 1 when a check has failed, and with 5 when the server cannot be reached.

    \b
    Examples:
      ratus doctor
      ratus doctor --rest http://127.0.0.1:8000 --thorough
    """
    checks = server.run(lambda client: _look(client, thorough=thorough))
    if rest:
        checks.append(_rest(rest))
    failed = sum(check.outcome is Outcome.FAILED for check in checks)
    if out.human:
        _show(checks)
    else:
        found = [
            {"name": check.name, "outcome": check.outcome.name.lower(), "detail": check.detail} for check in checks
        ]
        out.json({"target": server.target, "ok": not failed, "checks": found})
    if failed:
        raise Failure(f"{failed} of {len(checks)} checks failed", Exit.ERROR)


def _show(checks: list[Check]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, show_header=False, pad_edge=False)
    for check in checks:
        sign, colour = _SIGNS[check.outcome]
        table.add_row(Text(sign, colour), Text(check.name), Text(check.detail))
    Console(highlight=False).print(table)


async def _look(client: "Client", *, thorough: bool) -> list[Check]:
    begin = time.perf_counter()
    info = await client.calls.get_server_info()  # what cannot be reached cannot be looked at
    detail = f"{client.target} answered in {_milliseconds(time.perf_counter() - begin)}"
    checks = [Check("connection", Outcome.OK, detail), _version(info), await _health(client)]
    return [*checks, *await _clock_and_latency(client), await _reflection(client), *await _storage(client, thorough)]


def _version(info: ServerInfo) -> Check:
    uptime = times.format_duration(timedelta(seconds=int(info.uptime.total_seconds())))
    detail = f"Ratus {info.version}, engine {info.engine}, up {uptime}"
    if info.version != ratus.__version__:
        return Check("version", Outcome.WARNING, f"{detail}; this command is {ratus.__version__}")
    return Check("version", Outcome.OK, detail)


async def _health(client: "Client") -> Check:
    try:
        serving = await client.is_serving()
    except RatusError as error:
        return Check("health", Outcome.FAILED, str(error))
    if not serving:
        return Check("health", Outcome.FAILED, "not serving: the storage cannot be reached, or the server drains")
    return Check("health", Outcome.OK, "serving")


async def _clock_and_latency(client: "Client") -> tuple[Check, Check]:
    """Two checks by the same calls; the quickest answer knows best what the clock says."""
    took: list[tuple[float, datetime, datetime]] = []
    for _ in range(_CALLS):
        before, begin = times.now(), time.perf_counter()
        theirs = (await client.calls.get_server_info()).time
        took.append((time.perf_counter() - begin, before, theirs))
    seconds, before, theirs = min(took)
    ahead = theirs - before - timedelta(seconds=seconds / 2)
    usual, worst = median(each[0] for each in took), max(took)[0]
    detail = f"median {_milliseconds(usual)}, worst {_milliseconds(worst)} of {_CALLS} calls"
    latency = Check("latency", Outcome.WARNING if usual > _SLOW else Outcome.OK, detail)
    if abs(ahead) > _SKEW:
        detail = f"the server's is {times.format_duration(ahead)} ahead of this machine's: synchronise them"
        return Check("clock", Outcome.WARNING, detail), latency
    return Check("clock", Outcome.OK, "the server's and this machine's agree"), latency


async def _reflection(client: "Client") -> Check:
    try:
        services = await client.reflected()
    except RatusError as error:
        return Check("reflection", Outcome.WARNING, f"grpcurl and its like cannot list the services: {error}")
    return Check("reflection", Outcome.OK, f"{len(services)} services")


async def _storage(client: "Client", thorough: bool) -> list[Check]:
    from ratus.v1.server_service_pb2 import DiagnoseRequest

    try:
        answer = await client.call(lambda link: link.server.Diagnose, DiagnoseRequest(thorough=thorough))
    except Unavailable as error:
        return [Check("storage", Outcome.FAILED, str(error))]
    return [Check(check.name, Outcome(check.outcome), check.detail) for check in answer.checks]


def _rest(url: str) -> Check:
    if not url.startswith(("http://", "https://")):
        raise click.UsageError("--rest needs a URL such as http://127.0.0.1:8000")
    begin = time.perf_counter()
    try:
        with urllib.request.urlopen(url.rstrip("/") + "/readyz", timeout=_REST_TIMEOUT):  # noqa: S310 (checked above)
            took = time.perf_counter() - begin
    except urllib.error.HTTPError as error:
        return Check("rest", Outcome.FAILED, f"{url} answered {error.code}: {_message(error.read)}")
    except OSError as error:
        reason = getattr(error, "reason", error)
        return Check("rest", Outcome.FAILED, f"cannot reach {url}: {reason}")
    return Check("rest", Outcome.OK, f"{url} is ready, and answered in {_milliseconds(took)}")


def _message(read: Callable[[int], bytes]) -> str:
    """What an answer of the REST face says, or that it is not from one."""
    try:
        return str(msgspec.json.decode(read(10_000))["error"]["message"])
    except (msgspec.DecodeError, KeyError, TypeError):
        return "is it Ratus?"


def _milliseconds(seconds: float) -> str:
    return f"{seconds * 1000:.1f} ms"
