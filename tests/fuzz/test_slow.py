"""Clients that hardly say anything, by the hundred, and clients by the thousand."""

import asyncio
import sys
from pathlib import Path

from tests.fuzz.crowds import IMPATIENT, PATIENT, SECONDS, allowed, come_back, come_to, crowd, files, statuses, trickle
from tests.fuzz.watching import LONG, watched

HEAD = b"POST /v1/topics/t/tasks/slow HTTP/1.1\r\nHost: x\r\n"
SLOW = [  # what each begins with, and what it goes on with
    (b"", b""),
    (HEAD, b"X"),
    (HEAD + b"Content-Length: 1000000\r\n\r\n{", b" "),
    (HEAD + b"Transfer-Encoding: chunked\r\n\r\n1\r\n{\r\n", b"1\r\n \r\n"),
]
SLOW_GRPC = [(b"", b""), (b"PRI * HTTP/2.0\r\n", b""), (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"\0")]
CONNECTION_BYTES = 64 * 1024  # that one may take, with requests on half of them at the same moment
SOME = 5  # connections of the canary and of the last look, which come and go
GET = b"GET /v1/topics//tasks/canary HTTP/1.1\r\nHost: x\r\n\r\n"


async def test_connections_that_do_not_get_on_are_ended(tmp_path: Path) -> None:
    each = allowed(3500 if LONG else 700) // 7
    program = None if LONG else (sys.executable, "-c", IMPATIENT)
    with watched(tmp_path, program=program) as server:
        before = files(server.process)
        async with crowd(server.server.port, 4 * each) as rest, crowd(server.server.grpc_port, 3 * each) as grpc:
            slow = [(connection, *SLOW[index % 4]) for index, connection in enumerate(rest)]
            slow += [(connection, *SLOW_GRPC[index % 3]) for index, connection in enumerate(grpc)]
            async with asyncio.timeout(300 if LONG else SECONDS):
                await asyncio.gather(*(trickle(connection, start, drop, 0.3) for connection, start, drop in slow))
        after = await come_back(lambda: files(server.process), before + SOME)
        assert after <= before + SOME, f"{after} files are open, {before} were"
    print(f"slow: {7 * each} connections were ended by the server")


async def test_thousands_of_connections(tmp_path: Path) -> None:
    count = allowed(8000 if LONG else 2400) // 4
    program = (sys.executable, "-c", PATIENT)
    with watched(tmp_path, program=program, growth=4 * count * CONNECTION_BYTES) as server:
        before = files(server.process)
        async with (
            crowd(server.server.port, count) as idle,
            crowd(server.server.port, 2 * count) as active,
            crowd(server.server.grpc_port, count) as grpc,
        ):
            await come_to(lambda: files(server.process), 4 * count)  # those in the backlog too
            for _ in range(20 if LONG else 3):
                assert set(await statuses(active, GET)) == {b"HTTP/1.1 200 OK"}
            assert set(await statuses(idle, GET)) == {b"HTTP/1.1 200 OK"}
            assert len(grpc) == count
        after = await come_back(lambda: files(server.process), before + SOME)
        assert after <= before + SOME, f"{after} files are open, {before} were"
    print(f"crowd: {4 * count} connections at once")
