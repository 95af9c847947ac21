"""Serves from several processes that share both ports: starts them, replaces those that die, and ends them in order.

Workers are programs of their own, not forks, so that no event loop or driver is ever carried over. Each holds on to
this process by its standard input (see `ratus.orders`), which ends with this process however it dies.
"""

import asyncio
import contextlib
import logging
import signal
import sys
import tempfile
from asyncio.subprocess import PIPE, Process
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any, Final

from ratus.config import GRACE, LogSettings, ServeSettings
from ratus.errors import StartError
from ratus.orders import Order, Report
from ratus.ports import held

_log: Final = logging.getLogger(__name__)

_COMMAND: Final = (sys.executable, "-P", "-m", "ratus.worker")
_SETTLED: Final = 10.0  # seconds after which the death of a worker is no sign that the next one will die too
_FIRST_PAUSE: Final = 0.5  # seconds before a worker is replaced that died sooner; doubled while that goes on
_LONGEST_PAUSE: Final = 30.0
_PATIENCE: Final = 3 * GRACE  # seconds for a worker to end, whose faces may need their grace one after the other

_WHY_ONE: Final = {
    "sqlite": "an SQLite file has one writer, so that a second process could only wait for it, and the writer works in "
    "a process beside the one that serves already",
    "memory": "tasks in the memory of one process are out of reach for a second one",
}

Announce = Callable[[str], None]


async def supervise(settings: ServeSettings, log: LogSettings, announce: Announce) -> int:
    """Serve from `settings.workers` processes until SIGTERM or SIGINT, and give the exit status.

    It is 0 when all workers have ended in order. A second signal kills them. StartError if it can never work.
    """
    if settings.engine in _WHY_ONE:
        raise StartError(f"--workers {settings.workers} needs --engine mongodb: {_WHY_ONE[settings.engine]}")
    with contextlib.ExitStack() as stack:
        if settings.rest.port:
            stack.enter_context(held("REST", settings.rest))
        if settings.grpc.port:
            stack.enter_context(held("gRPC", settings.grpc))
        metrics = stack.enter_context(_directory())
        orders = [Order(number, worker_settings(settings, number), log, metrics) for number in range(settings.workers)]
        return await _run([_Place(order) for order in orders], announce)


def worker_settings(settings: ServeSettings, number: int) -> ServeSettings:
    """The settings of one worker. Their background jobs take turns within the interval."""
    turn = settings.chores.interval * number / settings.workers
    return replace(
        settings,
        rest=replace(settings.rest, shared=True),
        grpc=replace(settings.grpc, shared=True),
        chores=replace(settings.chores, initial_delay=settings.chores.initial_delay + turn),
    )


@contextlib.contextmanager
def _directory() -> Iterator[str]:
    """A directory for the metrics of all workers, which goes with them."""
    try:
        directory = tempfile.TemporaryDirectory(prefix="ratus-metrics-", ignore_cleanup_errors=True)
    except OSError as error:
        raise StartError(f"cannot make a directory for the metrics of the workers: {error}") from None
    with directory as path:
        yield path


async def _run(places: Sequence["_Place"], announce: Announce) -> int:
    """Have a worker in each place until a signal asks for the end; the exit status."""
    first, second = _signals()
    work: asyncio.Future[Any] = asyncio.gather(*(place.start() for place in places))
    try:
        if await _unless(first, work):
            announce(f"{work.result()[0]}; {len(places)} workers")
            work = asyncio.gather(*(place.keep() for place in places))
            await _unless(first, work)
    except BaseException:
        for place in places:
            place.kill()
        await asyncio.gather(*(place.drain() for place in places))
        raise
    finally:
        work.cancel()
        await asyncio.gather(work, return_exceptions=True)  # also takes what it raises, which else would be logged
    _log.info("draining %d workers", len(places))
    drained = asyncio.gather(*(place.drain() for place in places))
    if not await _unless(second, drained):
        for place in places:
            place.kill()
        await drained
        return 128 + second.result()
    return 0 if all(drained.result()) else 1


def _signals() -> tuple[asyncio.Future[int], asyncio.Future[int]]:
    """The first and the second SIGTERM or SIGINT."""
    loop = asyncio.get_running_loop()
    first, second = loop.create_future(), loop.create_future()

    def on_signal(number: int) -> None:
        for signalled in (first, second):
            if not signalled.done():
                signalled.set_result(number)
                return

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, on_signal, number)
    return first, second


async def _unless(signalled: asyncio.Future[int], work: asyncio.Future[Any]) -> bool:
    """Wait for work, unless a signal comes first; whether it was done. Raises what the work raises."""
    await asyncio.wait((signalled, work), return_when=asyncio.FIRST_COMPLETED)
    if signalled.done():
        return False
    await work
    return True


class _Place:
    """A place among the workers, with one process at a time."""

    def __init__(self, order: Order) -> None:
        self._order = order
        self._process: Process | None = None

    async def start(self) -> str:
        """Start a worker, and give the line that says what it serves; StartError if it does not come to that."""
        try:
            # In a session of its own it is not met by signals from the keyboard, which are for the supervisor.
            self._process = process = await asyncio.create_subprocess_exec(
                *_COMMAND, stdin=PIPE, stdout=PIPE, start_new_session=True
            )
        except OSError as error:
            raise StartError(f"cannot start a worker: {error.strerror}") from None
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(self._order.line())
        line = await process.stdout.readline()
        report = Report.parse(line) if line else Report()
        if report.serves:
            return report.serves
        ending = _ending(await process.wait())
        raise StartError(report.failure or f"a worker {ending} before it could serve")

    async def keep(self) -> None:
        """Have another worker here whenever one has ended, until cancelled."""
        loop = asyncio.get_running_loop()
        pause = 0.0
        while True:
            began = loop.time()
            try:
                if not self._running:
                    await self.start()
                assert self._process is not None
                what = _ending(await self._process.wait())
            except StartError as error:
                what = f"cannot start: {error}"
            settled = loop.time() - began > _SETTLED
            pause = 0.0 if settled else min(max(_FIRST_PAUSE, 2 * pause), _LONGEST_PAUSE)
            _log.warning("%s %s; it is replaced in %g s", self, what, pause)
            await asyncio.sleep(pause)

    async def drain(self) -> bool:
        """Let the worker end in order; whether it has."""
        process = self._process
        if process is None or not self._running:
            return True
        assert process.stdin is not None
        process.stdin.close()
        try:
            async with asyncio.timeout(_PATIENCE):
                status = await process.wait()
        except TimeoutError:
            _log.error("%s does not end and is killed", self)
            self.kill()
            status = await process.wait()
        return status in (0, -signal.SIGTERM)  # a signal to all processes may have been faster than its handler

    def kill(self) -> None:
        """End the worker at once."""
        if self._process is not None and self._running:
            with contextlib.suppress(ProcessLookupError):  # it has ended by itself
                self._process.kill()

    def __str__(self) -> str:
        return f"worker {self._order.number} ({self._process.pid if self._process else 'not started'})"

    @property
    def _running(self) -> bool:
        return self._process is not None and self._process.returncode is None


def _ending(status: int) -> str:
    return f"was killed by {signal.Signals(-status).name}" if status < 0 else f"ended with status {status}"
