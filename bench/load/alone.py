"""One request at a time, and nobody else: prints the median milliseconds of an insert, a claim and a commit.

`python -m bench.load.alone rest|grpc|bare_rest|bare_grpc PORT COUNT`, or of the driver by itself: `… mongodb URI COUNT`
"""

import socket
import statistics
import sys
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack

import msgspec
import uvloop
from google.protobuf.duration_pb2 import Duration

from bench.load import raw_mongodb
from bench.load.calls import PAYLOAD, Calls, channel, commit, task
from ratus.v1 import promise_service_pb2 as promises_pb
from ratus.v1 import task_service_pb2 as tasks_pb

WARM_UP = 20  # rounds
Spent = tuple[float, float, float]


class Http:
    """A connection that is kept, with no more than what these requests need."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port))
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def call(self, method: str, path: str, body: bytes = b"") -> bytes:
        head = f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n\r\n"
        self._socket.sendall(head.encode() + body)
        answer = b""
        while b"\r\n\r\n" not in answer:
            answer += self._receive()
        head_, _, content = answer.partition(b"\r\n\r\n")
        assert b" 20" in head_[:13], answer
        length = int(head_.lower().partition(b"content-length:")[2].partition(b"\r\n")[0])
        while len(content) < length:
            content += self._receive()
        return content

    def _receive(self) -> bytes:
        received = self._socket.recv(65536)
        assert received, "the server has closed the connection"
        return received


def rest(port: int) -> Callable[[], Awaitable[Spent]]:
    http = Http(port)

    async def round() -> Spent:
        path = f"/v1/topics/bench/tasks/{task('bench').id}"
        begin = time.perf_counter()
        http.call("POST", path, b'{"payload":' + PAYLOAD + b"}")
        inserted = time.perf_counter()
        answer = http.call("POST", "/v1/topics/bench/promises?timeout=30s&consumer=bench")
        claimed = time.perf_counter()
        promised = msgspec.json.decode(answer)
        body = msgspec.json.encode({"nonce": promised["nonce"]})
        before = time.perf_counter()
        http.call("PATCH", f"/v1/topics/bench/tasks/{promised['_id']}", body)
        return inserted - begin, claimed - inserted, time.perf_counter() - before

    return round


def bare_rest(port: int) -> Callable[[], Awaitable[Spent]]:
    http = Http(port)

    async def round() -> Spent:
        begin = time.perf_counter()
        http.call("POST", "/", b'{"payload":' + PAYLOAD + b"}")
        spent = time.perf_counter() - begin
        return spent, spent, spent

    return round


def grpc(calls: Calls) -> Callable[[], Awaitable[Spent]]:
    claim = promises_pb.ClaimTasksRequest(topic="bench", consumer="bench", timeout=Duration(seconds=30))
    request = claim.SerializeToString()

    async def round() -> Spent:
        insert = tasks_pb.InsertTaskRequest(task=task("bench")).SerializeToString()
        begin = time.perf_counter()
        await calls.insert(insert)
        inserted = time.perf_counter()
        answer = await calls.claim(request)
        claimed = time.perf_counter()
        [promised] = answer.tasks
        body = commit(promised).SerializeToString()
        before = time.perf_counter()
        await calls.commit(body)
        return inserted - begin, claimed - inserted, time.perf_counter() - before

    return round


def bare_grpc(calls: Calls) -> Callable[[], Awaitable[Spent]]:
    async def round() -> Spent:
        begin = time.perf_counter()
        await calls.insert(b"")
        spent = time.perf_counter() - begin
        return spent, spent, spent

    return round


def driver(store: raw_mongodb.Store) -> Callable[[], Awaitable[Spent]]:
    async def round() -> Spent:
        begin = time.perf_counter()
        await store.collection.insert_one(store.document())
        inserted = time.perf_counter()
        found = await store.claim()
        claimed = time.perf_counter()
        query = {"_id": found["_id"], "nonce": found["nonce"]}
        before = time.perf_counter()
        await store.collection.find_one_and_update(query, {"$set": {"state": 2, "nonce": ""}})
        return inserted - begin, claimed - inserted, time.perf_counter() - before

    return round


async def main(kind: str, where: str, count: int) -> None:
    async with AsyncExitStack() as stack:
        if kind == "mongodb":
            round = driver(await stack.enter_async_context(raw_mongodb.opened(where)))
        elif kind in ("rest", "bare_rest"):
            round = {"rest": rest, "bare_rest": bare_rest}[kind](int(where))
        else:
            connection = await stack.enter_async_context(channel(f"127.0.0.1:{where}"))
            round = {"grpc": grpc, "bare_grpc": bare_grpc}[kind](Calls(connection))
        for _ in range(WARM_UP):
            await round()
        spent = [await round() for _ in range(count)]
    print(*(statistics.median(values) * 1000 for values in zip(*spent, strict=True)))


if __name__ == "__main__":
    uvloop.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3])))
