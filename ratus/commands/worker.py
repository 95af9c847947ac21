"""Runs a command for each task, as `ratus work` does."""

import asyncio
import contextlib
import logging
import os
import signal
import tempfile
import time
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

import msgspec

import ratus
from ratus import times
from ratus.client.subscription import Subscription
from ratus.client.task import ActiveTask
from ratus.commands.connection import tls
from ratus.commands.options import QUIET, Server
from ratus.errors import RatusError

_REST: Final = 1.0  # seconds after a failure whose task is pending again at once
_KILL_AFTER: Final = 5.0  # seconds that a command has to end when it is stopped

_log: Final = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Orders:
    """What to do."""

    server: Server
    topics: tuple[str, ...]
    shell: str
    concurrency: int
    timeout: timedelta
    retry: timedelta | None
    archive_on: frozenset[int]
    is_text: bool
    consumer: str
    count: int | None
    idle: timedelta | None
    grace: timedelta
    verbose: bool


class Worker:
    """As many loops as commands may run at once, over one subscription."""

    def __init__(self, orders: Orders) -> None:
        self._orders = orders
        self._left = orders.count
        self._busy = 0
        self._stopping = asyncio.Event()  # no more tasks are begun
        self._hurrying = asyncio.Event()  # commands are stopped
        _log.setLevel(logging.INFO if orders.verbose else logging.WARNING)

    def stop(self) -> None:
        """Begin no more tasks; the second time, stop the commands that run."""
        if self._stopping.is_set():
            self._hurrying.set()
        self._stopping.set()

    async def run(self) -> None:
        """Work until there is no more to do, or it is stopped. RatusError."""
        orders = self._orders
        queue = ratus.connect(
            *orders.server.target.split(","),
            consumer=orders.consumer,
            tls=tls(orders.server) or False,
            metadata=dict(orders.server.metadata),
        )
        async with (
            queue,
            queue.subscribe(*orders.topics, concurrency=orders.concurrency, timeout=orders.timeout) as tasks,
        ):
            ending = asyncio.create_task(self._end(tasks))
            loops = [asyncio.create_task(self._loop(tasks)) for _ in range(orders.concurrency)]
            try:
                done, _ = await asyncio.wait(loops, return_when=asyncio.FIRST_EXCEPTION)
                for loop in done:
                    loop.result()
            finally:
                for other in (ending, *loops):
                    other.cancel()
                await asyncio.wait([ending, *loops])

    async def _end(self, tasks: Subscription[Any]) -> None:
        """Once it is stopped: take no more tasks, and let commands run for the grace period."""
        await self._stopping.wait()
        tasks.stop()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._hurrying.wait(), self._orders.grace.total_seconds())
        self._hurrying.set()

    async def _loop(self, tasks: Subscription[Any]) -> None:
        while not self._stopping.is_set() and self._left != 0:
            if self._left is not None:
                self._left -= 1  # before another loop waits for the same one
            task = await self._next(tasks)
            if task is None:
                return
            self._busy += 1
            try:
                await self._execute(task)
            except RatusError as error:
                _log.warning("task %r could not be committed, and waits for its deadline: %s", task.id, error)
            finally:
                self._busy -= 1
            del task  # what is dropped is not extended

    async def _next(self, tasks: Subscription[Any]) -> ActiveTask[Any] | None:
        """The next task; None once there is no more to do."""
        idle = self._orders.idle
        while True:
            try:
                return await asyncio.wait_for(tasks.next(), None if idle is None else idle.total_seconds())
            except TimeoutError:
                if not self._busy:
                    self._stopping.set()
                    return None

    async def _execute(self, task: ActiveTask[Any]) -> None:
        begin = time.monotonic()
        status = await self._run_command(task)
        seconds = time.monotonic() - begin
        if task.lost:
            _log.warning("task %r: another consumer has got it, the command was stopped", task.id)
        elif status is None:
            _log.warning("task %r: stopped after %.1f s, given back", task.id, seconds)
            await task.release()
        elif status == 0:
            await task.commit()
            _log.info("task %r: done in %.1f s", task.id, seconds)
        elif status in self._orders.archive_on:
            _log.warning("task %r: exit status %d after %.1f s, archived", task.id, status, seconds)
            await task.archive().commit()
        elif self._orders.retry is not None:
            after = times.format_duration(self._orders.retry)
            _log.warning("task %r: exit status %d after %.1f s, again in %s", task.id, status, seconds, after)
            await task.retry(self._orders.retry).commit()
        else:
            _log.warning("task %r: exit status %d after %.1f s, given back", task.id, status, seconds)
            await task.release()
            with contextlib.suppress(TimeoutError):  # it may be the next one again
                await asyncio.wait_for(self._stopping.wait(), _REST)

    async def _run_command(self, task: ActiveTask[Any]) -> int | None:
        """The exit status of the command; None if it was stopped."""
        with tempfile.TemporaryFile() as payload:  # not a pipe, whose end a command that does not read it may close
            payload.write(self._input(task))
            payload.seek(0)
            process = await asyncio.create_subprocess_exec(
                "/bin/sh",
                "-c",
                self._orders.shell,
                stdin=payload,
                env=_environment(task, self._orders.server),
                start_new_session=True,  # Ctrl-C is for us, and what it starts can be stopped with it
            )
        running = asyncio.create_task(process.wait())
        reasons = [asyncio.create_task(task.wait_lost()), asyncio.create_task(self._hurrying.wait())]
        try:
            await asyncio.wait([running, *reasons], return_when=asyncio.FIRST_COMPLETED)
            if running.done():
                running.result()
                return process.returncode
            _signal(process.pid, signal.SIGTERM)
            await asyncio.wait([running], timeout=_KILL_AFTER)
            return None
        finally:
            for reason in reasons:
                reason.cancel()
            if not running.done():
                _signal(process.pid, signal.SIGKILL)
                await running

    def _input(self, task: ActiveTask[Any]) -> bytes:
        payload = task.raw_payload or b""
        if self._orders.is_text and payload.startswith(b'"'):
            return msgspec.json.decode(payload, type=str).encode()
        return payload


def _signal(group: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(group, number)


def _environment(task: ActiveTask[Any], server: Server) -> dict[str, str]:
    """What the command gets to know: the task, and where the server is, for `ratus` commands in it."""
    inherited = {name: value for name, value in os.environ.items() if QUIET.get(name) != value}
    given = {
        "RATUS_TARGET": server.target,
        "RATUS_ID": task.id,
        "RATUS_TOPIC": task.topic,
        "RATUS_NONCE": task.nonce,
        "RATUS_PRODUCER": task.producer,
        "RATUS_CONSUMER": task.consumer,
        "RATUS_SCHEDULED": _text(task.scheduled),
        "RATUS_DEADLINE": _text(task.deadline),
    }
    return inherited | given


def _text(moment: datetime | None) -> str:
    return "" if moment is None else moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
