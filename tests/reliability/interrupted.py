"""Backups whose client or server is killed in the middle."""

import asyncio
import contextlib
import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Final

from tests.reliability.checker import Finding
from tests.reliability.load import until
from tests.server import RATUS, Server, run

MIDDLE_SECONDS: Final = 60
AGAIN_SECONDS: Final = 60
END_SECONDS: Final = 120


def begun(*args: str) -> "subprocess.Popen[str]":
    """`ratus`, which runs on."""
    return subprocess.Popen([*RATUS, *args], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


async def in_the_middle(client: "subprocess.Popen[str]", unfinished: Callable[[], int], least: int) -> bool:
    """Let the client stand still once it has written something; whether that was not all."""
    await until(lambda: unfinished() > 0 or client.poll() is not None, MIDDLE_SECONDS, "nothing is written")
    if client.poll() is not None:
        return False
    os.kill(client.pid, signal.SIGSTOP)
    return 0 < unfinished() < least


async def interrupt(
    server: Server,
    command: tuple[str, ...],
    file: Path,
    unfinished: Callable[[], int],
    least: int,
    *,
    kill_server: bool,
) -> list[Finding] | None:
    """Kill the client or the server while `command` writes `file`, of at least so many bytes; what is wrong then.

    The client stands still meanwhile, so that the server has the rest still to send. None if it was complete already.
    """
    client = begun(*command, "--target", server.target)
    try:
        if not await in_the_middle(client, unfinished, least):
            return None
        if kill_server:
            await asyncio.to_thread(server.kill)
            await asyncio.to_thread(server.start)
            os.kill(client.pid, signal.SIGCONT)
            code = await asyncio.to_thread(client.wait, END_SECONDS)
            if not code:
                return [Finding("interrupted", "", "the client of a killed server was content")]
        else:
            client.kill()
            await asyncio.to_thread(client.wait, END_SECONDS)
    finally:
        with contextlib.suppress(ProcessLookupError):
            client.kill()
        client.communicate()
    return _half(file)


def _half(file: Path) -> list[Finding]:
    return [Finding("interrupted", "", f"there is half a file under {file.name}")] if file.exists() else []


async def backed_up(server: Server, file: Path) -> None:
    """Make a backup, as soon as the server has given up the one before."""
    async with asyncio.timeout(AGAIN_SECONDS):
        while True:
            done = await asyncio.to_thread(run, "backup", str(file), "--target", server.target, timeout=AGAIN_SECONDS)
            if done.returncode == 0:
                return
            if "another backup" not in done.stderr:
                raise AssertionError(done.stderr)
