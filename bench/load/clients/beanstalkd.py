"""beanstalkd: a connection for each caller; its batch mode is that commands may be sent before the last is answered.

The protocol: https://raw.githubusercontent.com/beanstalkd/beanstalkd/master/doc/protocol.txt
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

SECONDS_TO_RUN = 60


class Beanstalkd:
    """One connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self.writer = writer

    async def put(self, bodies: Sequence[bytes]) -> None:
        commands = (b"put 0 0 %d %d\r\n%s\r\n" % (SECONDS_TO_RUN, len(body), body) for body in bodies)
        self.writer.write(b"".join(commands))
        for _ in bodies:
            await self._answer(b"INSERTED")

    async def take(self, limit: int) -> Sequence[tuple[bytes, bytes]]:
        # The first waits, the others take what is there.
        self.writer.write(b"reserve\r\n" + b"reserve-with-timeout 0\r\n" * (limit - 1))
        taken = [await self._job() for _ in range(limit)]
        return [job for job in taken if job is not None]

    async def done(self, handles: Sequence[bytes]) -> None:
        self.writer.write(b"".join(b"delete %s\r\n" % handle for handle in handles))
        for _ in handles:
            await self._answer(b"DELETED")

    async def _answer(self, expected: bytes) -> list[bytes]:
        words = (await self._reader.readline()).split()
        if words[:1] != [expected]:
            raise RuntimeError(f"beanstalkd answered {words}, not {expected!r}")
        return words

    async def _job(self) -> tuple[bytes, bytes] | None:
        line = await self._reader.readline()
        if line == b"TIMED_OUT\r\n":
            return None
        _, id, size = line.split()
        body = await self._reader.readexactly(int(size) + 2)
        return id, body[:-2]


@asynccontextmanager
async def connect(address: str, count: int, batch: int) -> AsyncIterator[list[Beanstalkd]]:
    host, port = address.split(":")
    clients = [Beanstalkd(*await asyncio.open_connection(host, int(port))) for _ in range(count)]
    yield clients
    for client in clients:
        client.writer.close()
