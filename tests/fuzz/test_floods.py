"""Floods of large bodies and messages, and JSON that is large in other ways."""

import asyncio
import json
import time
from collections import Counter
from pathlib import Path

import grpc
import pytest

from ratus.v1 import task_pb2, task_service_pb2
from tests.fuzz.crowds import SECONDS, Connection, come_back, crowd
from tests.fuzz.watching import LONG, Watched, watched

MIB = 1024 * 1024
MOST = 32 * MIB  # of a request
TOGETHER = 20 if LONG else 6
ROUNDS = 20 if LONG else 2
EACH = (
    3  # times its size, which a request that is being served may take; a message beyond the bound is read up to 64 MiB
)
LEFT = 100 * MIB  # by which a server may have grown when it is all over

BOMBS = {
    "nested arrays": b"[" * 500_000,
    "nested objects": b'{"a":' * 150_000 + b"1" + b"}" * 150_000,
    "closed and nested": b"[" * 400_000 + b"]" * 400_000,
    "a long number": b"9" * 1_000_000,
    "a long fraction": b"0." + b"1" * 1_000_000,
    "a large exponent": b"1e999999999",
    "a long exponent": b"1e" + b"9" * 1_000_000,
    "many keys": b"{" + b",".join(b'"%d":0' % key for key in range(90_000)) + b"}",
    "equal keys": b"{" + b",".join([b'"a":0'] * 150_000) + b"}",
    "a long key": b'{"' + b"k" * 1_000_000 + b'":0}',
    "escapes": b'"' + b"\\u0041" * 170_000 + b'"',
    "surrogates": b'"' + b"\\ud800" * 170_000 + b'"',
    "empty arrays": b"[" + b",".join([b"[]"] * 300_000) + b"]",
}


def batch(size: int) -> bytes:
    """A body of this size that is read as a whole and refused, for its last task."""
    start, end = b'{"data":[', b'{"_id":"last","state":7}]}'
    entry = b'{"_id":"x","payload":"%b"},' % (b"y" * (MIB // 2))
    count = (size - len(start) - len(end)) // len(entry)
    body = start + count * entry
    return body + b" " * (size - len(body) - len(end)) + end


def chunked(body: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(body), body)


async def post(connection: Connection, head: bytes, body: bytes) -> tuple[int, str]:
    """The status and the message of the answer, which may come before all has been sent."""
    reader, writer = connection
    writer.write(b"POST /v1/topics/t/tasks HTTP/1.1\r\nHost: x\r\nConnection: close\r\n%b\r\n\r\n" % head)
    for start in range(0, len(body), MIB):
        writer.write(body[start : start + MIB])
        try:
            async with asyncio.timeout(SECONDS):
                await writer.drain()
        except ConnectionError:
            break
    async with asyncio.timeout(SECONDS):
        answer = await reader.read(-1)
    head, _, content = answer.partition(b"\r\n\r\n")
    return int(head.split()[1]), json.loads(content)["error"]["message"]


async def settled(server: Watched, began: int) -> None:
    """Memory has come back."""
    left = await come_back(lambda: server.process.memory_info().rss, began + LEFT)
    assert left <= began + LEFT, f"{(left - began) >> 20} MiB are left"
    print(f"flood: {(left - began) >> 20} MiB left")


async def test_floods_of_large_bodies(tmp_path: Path) -> None:
    length = b"Content-Length: %d"
    chunks = b"Transfer-Encoding: chunked"
    largest, beyond = batch(MOST), batch(MOST + 1)
    kinds = [
        (length % len(largest), largest, (400, "bad request: invalid state 7")),
        (chunks, chunked(largest) + b"0\r\n\r\n", (400, "bad request: invalid state 7")),
        (length % len(beyond), b"", (413, f"too large: request body exceeds the maximum of {MOST} bytes")),
        (length % len(beyond), beyond, (413, f"too large: request body exceeds the maximum of {MOST} bytes")),
        (chunks, chunked(beyond), (413, f"too large: request body exceeds the maximum of {MOST} bytes")),
    ]
    seen: Counter[tuple[int, str]] = Counter()
    with watched(tmp_path, growth=TOGETHER * EACH * MOST) as server:
        began = server.process.memory_info().rss
        for number in range(ROUNDS):
            async with crowd(server.server.port, TOGETHER) as connections:
                kinds_now = [kinds[(index + number) % len(kinds)] for index in range(TOGETHER)]
                answers = await asyncio.gather(
                    *(
                        post(connection, head, body)
                        for connection, (head, body, _) in zip(connections, kinds_now, strict=True)
                    )
                )
            assert answers == [expected for _, _, expected in kinds_now]
            seen.update(answers)
        await settled(server, began)
    print(f"flood: REST, {TOGETHER} at once, {dict(seen)}")


async def test_floods_of_large_messages(tmp_path: Path) -> None:
    tasks = [task_pb2.Task(id=str(n), topic="t", payload=b'"%b"' % (b"y" * (MIB // 2))) for n in range(62)]
    tasks.append(task_pb2.Task(id="last", topic="t", state=7))  # type: ignore[arg-type]
    largest = task_service_pb2.InsertTasksRequest(tasks=tasks).SerializeToString()
    beyond = largest + b"\x7a\x80\x80\x80\x01" + bytes(2 * MIB)  # a field that nobody knows
    huge = 3 * largest
    expected = {
        largest: (grpc.StatusCode.INVALID_ARGUMENT, "bad request: "),
        beyond: (grpc.StatusCode.RESOURCE_EXHAUSTED, "too large: "),
        huge: (grpc.StatusCode.RESOURCE_EXHAUSTED, "too large: "),
    }
    seen: Counter[str] = Counter()
    with watched(tmp_path, growth=TOGETHER * EACH * MOST) as server:
        began = server.process.memory_info().rss
        async with grpc.aio.insecure_channel(
            server.server.target, options=[("grpc.max_send_message_length", -1)]
        ) as channel:
            insert = channel.unary_unary("/ratus.v1.TaskService/InsertTasks")

            async def send(message: bytes) -> None:
                with pytest.raises(grpc.aio.AioRpcError) as refused:
                    await insert(message, timeout=SECONDS)
                code, start = expected[message]
                assert refused.value.code() == code
                assert (refused.value.details() or "").startswith(start)
                seen[code.name] += 1

            for _ in range(ROUNDS):
                kinds = [list(expected)[index % 3] for index in range(TOGETHER)]
                await asyncio.gather(*(send(message) for message in kinds))
        await settled(server, began)
    print(f"flood: gRPC, {TOGETHER} at once, {dict(seen)}")


async def test_bombs_are_refused_or_stored_soon(tmp_path: Path) -> None:
    with watched(tmp_path) as server:
        async with grpc.aio.insecure_channel(server.server.target) as channel:
            insert = channel.unary_unary(
                "/ratus.v1.TaskService/UpsertTask", task_service_pb2.UpsertTaskRequest.SerializeToString
            )
            for name, bomb in BOMBS.items():
                begin = time.monotonic()
                bodies = [b'{"data":[{"_id":"b","payload":%b}]}', b'{"unknown":%b}', b'{"data":%b}', b"%b"]
                async with crowd(server.server.port, len(bodies)) as connections:
                    requests = [(connection, body % bomb) for connection, body in zip(connections, bodies, strict=True)]
                    statuses = [await status(connection, body) for connection, body in requests]
                assert set(statuses) <= {200, 201, 400, 413}, (name, statuses)
                task = task_pb2.Task(id="b", topic="t", payload=bomb)
                try:
                    await insert(task_service_pb2.UpsertTaskRequest(task=task), timeout=SECONDS)
                    code = grpc.StatusCode.OK
                except grpc.aio.AioRpcError as error:
                    code = error.code()
                # both faces take the same payloads
                assert (code is grpc.StatusCode.OK) == (statuses[0] in (200, 201)), (name, statuses, code)
                print(f"bomb: {name}: {statuses}, {code.name}, {time.monotonic() - begin:.2f} s")


async def status(connection: Connection, body: bytes) -> int:
    """The status of the answer to a body."""
    reader, writer = connection
    writer.write(b"PUT /v1/topics/t/tasks HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))
    async with asyncio.timeout(SECONDS):
        return int((await reader.readuntil(b"\r\n")).split()[1])
