"""The writer in a process of its own, as the server sees it."""

import asyncio
import contextlib
import logging
import os
import socket
import subprocess
import sys
from collections import deque
from collections.abc import Callable
from typing import Any, Final

from ratus.engines.sqlite import protocol
from ratus.engines.sqlite.groups import Call, Operation
from ratus.engines.sqlite.protocol import Frames, Kind
from ratus.engines.sqlite.worker import Worker
from ratus.errors import StartError, StorageUnavailable

PROGRAM: tuple[str, ...] = (sys.executable, "-P", "-m", "ratus.engines.sqlite.writer")

# Tasks for which calls are passed on at once, so that the writer is at work while the event loop takes in more, and the
# loop while the writer is. With fewer each costs more, with more one of the two often waits for the other.
_ENOUGH: Final = 12
_FIRST_PAUSE: Final = 0.1  # seconds before a writer is started again that could not be; doubled while that goes on
_LONGEST_PAUSE: Final = 2.0

_GONE: Final = "the process that writes has died, and is being started anew"
_DIED: Final = "the process that writes has died at its start"

_log: Final = logging.getLogger(__name__)


class WriterProcess(Worker):
    """Runs calls in a process that is started for it, and started anew when it dies.

    So statements run beside the event loop, where two threads would take turns with the interpreter's lock. Calls that
    were under way when the process died fail with StorageUnavailable, and so do those that come until there is a new
    one.
    """

    def __init__(self, path: str, lock: int) -> None:
        super().__init__(enough=_ENOUGH)
        self._path = path
        self._lock = lock  # held by the process too, which may have something to finish when this one has died
        self._operations: deque[Operation[Any, Any]] = deque()  # of the calls that were passed on
        self._process: subprocess.Popen[bytes] | None = None
        self._transport: asyncio.WriteTransport | None = None  # while the process is ready
        self._again: asyncio.Task[None] | None = None
        self._closing = asyncio.Event()

    async def open(self) -> None:
        """Start the process; StartError if it cannot use the file."""
        ours, theirs = socket.socketpair()
        with theirs:
            self._process = await asyncio.to_thread(self._spawn, theirs.fileno())
        ready: asyncio.Future[str] = self._loop.create_future()
        transport, _ = await self._loop.create_connection(lambda: _Connection(ready, self._take, self._lost), sock=ours)
        refusal = await ready
        if refusal or transport.is_closing():
            transport.close()
            await self._reap()
            raise StartError(refusal or _DIED)
        self._transport = transport

    async def close(self) -> None:
        """Run what waits, then end the process, which closes the file."""
        await super().close()
        self._closing.set()
        if self._again is not None:
            await self._again
        if self._transport is not None:
            self._transport.close()
        await self._reap()

    def _spawn(self, descriptor: int) -> subprocess.Popen[bytes]:
        return subprocess.Popen(  # noqa: S603 (our own program)
            (*PROGRAM, str(descriptor), self._path),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            pass_fds=(descriptor, self._lock),
            env=os.environ | {"PYTHONPATH": os.pathsep.join(path or os.getcwd() for path in sys.path)},
        )

    async def _reap(self) -> None:
        if self._process is not None:
            await asyncio.to_thread(self._process.wait)

    def _pass_on(self, calls: list[Call]) -> None:
        self._operations.extend([call.operation for call in calls])
        if self._transport is None:
            self._fail()
        else:
            self._transport.write(protocol.frame(Kind.CALLS, protocol.encode_calls(calls)))

    def _take(self, kind: int, content: bytes) -> None:
        if kind == Kind.ANSWERS:
            self._answer(protocol.decode_answers(self._operations, content))
        elif kind == Kind.LOG:
            line = protocol.decode_log(content)
            logging.getLogger(line.logger).log(line.level, "%s", line.text)

    def _fail(self) -> None:
        count = len(self._operations)
        self._operations.clear()
        self._answer([StorageUnavailable(_GONE) for _ in range(count)])

    def _lost(self) -> None:
        if self._transport is None or self._closing.is_set():
            return
        self._transport = None
        _log.error("SQLite: the process that writes has died; it is started anew")
        self._fail()
        self._again = asyncio.create_task(self._open_again())

    async def _open_again(self) -> None:
        pause = _FIRST_PAUSE
        while not self._closing.is_set():
            await self._reap()
            try:
                await self.open()
            except (StartError, OSError) as error:
                _log.error("SQLite: the process that writes cannot be started: %s", error)
            else:
                _log.warning("SQLite: the process that writes is there again")
                return
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._closing.wait(), pause)
            pause = min(2 * pause, _LONGEST_PAUSE)


class _Connection(asyncio.Protocol):
    """The socket to a process, from which frames are taken; the first one says whether it is `ready`."""

    def __init__(
        self, ready: asyncio.Future[str], take: Callable[[int, bytes], None], lost: Callable[[], None]
    ) -> None:
        self._ready = ready
        self._take = take
        self._lost = lost
        self._frames = Frames()

    def data_received(self, data: bytes) -> None:
        for kind, content in self._frames.take(data):
            if kind == Kind.READY:
                self._ready.set_result(content.decode())
            else:
                self._take(kind, content)

    def connection_lost(self, error: Exception | None) -> None:
        if not self._ready.done():
            self._ready.set_result(_DIED)
        with contextlib.suppress(RuntimeError):  # the event loop is closed
            self._lost()
