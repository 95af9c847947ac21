"""Many connections at once, by hand: opened, trickled into, and held."""

import asyncio
import resource
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

import psutil

SECONDS = 60  # for what has to come; far beyond the stalls of a busy machine
SPARE_FILES = 200  # of a process, beside its connections

# A real server that loses patience sooner than it does in earnest.
IMPATIENT = """
from gateway.protocol import Protocol
from ratus.http2.listener import Listener
Protocol.patience = 2.0
Listener.handshake_timeout = 3.0
from ratus.cli import main
main()
"""

# One that has more patience, with clients that take their turns by the thousand.
PATIENT = """
from gateway.protocol import Protocol
Protocol.patience = Protocol.idle = 600
from ratus.cli import main
main()
"""

Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]


def allowed(connections: int) -> int:
    """So many connections, or as many as the system lets a process have, whose soft limit is raised to the hard one."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    if hard == resource.RLIM_INFINITY or connections + SPARE_FILES <= hard:
        return connections
    print(f"SCALED DOWN to {hard - SPARE_FILES} connections: a process may have {hard} files open")
    return hard - SPARE_FILES


@asynccontextmanager
async def crowd(port: int, count: int) -> AsyncIterator[list[Connection]]:
    """So many connections."""
    connections: list[Connection] = []
    try:
        for _ in range(0, count, 100):
            opened = (asyncio.open_connection("127.0.0.1", port) for _ in range(min(100, count - len(connections))))
            connections += await asyncio.gather(*opened)
        yield connections
    finally:
        for _, writer in connections:
            writer.transport.abort()


async def trickle(connection: Connection, start: bytes, drop: bytes, pause: float) -> bytes:
    """Send a start, and a drop after every pause, until the server ends the connection; what it has sent."""
    reader, writer = connection
    writer.write(start)
    received = asyncio.ensure_future(reader.read(-1))
    try:
        while not (await asyncio.wait([received], timeout=pause))[0]:
            writer.write(drop)
        return await received
    except ConnectionError:
        return b""
    finally:
        received.cancel()


async def come_back(what: Callable[[], int], to: int, seconds: float = SECONDS) -> int:
    """Wait until a number is back; the number."""
    until = time.monotonic() + seconds
    while (now := what()) > to and time.monotonic() < until:  # noqa: ASYNC110
        await asyncio.sleep(0.1)  # of another process there are no events
    return now


async def come_to(what: Callable[[], int], least: int) -> None:
    """Wait until a number is there."""
    async with asyncio.timeout(SECONDS):
        while what() < least:  # noqa: ASYNC110
            await asyncio.sleep(0.1)


def files(process: psutil.Process) -> int:
    """The open files of a process."""
    return process.num_fds()


async def statuses(connections: Sequence[Connection], request: bytes) -> list[bytes]:
    """The status lines of the answers to a request on all connections at once."""
    for _, writer in connections:
        writer.write(request)
    async with asyncio.timeout(SECONDS):
        return list(await asyncio.gather(*(_status(reader) for reader, _ in connections)))


async def _status(reader: asyncio.StreamReader) -> bytes:
    head = await reader.readuntil(b"\r\n\r\n")
    length = next(line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
    await reader.readexactly(int(length.partition(b":")[2]))
    return head.partition(b"\r\n")[0]
