"""HTTP/2 as no client speaks it, on the gRPC port, and TLS where plain text is spoken and the other way round."""

import asyncio
import os
import random
import struct
from collections.abc import Callable
from pathlib import Path

import grpc
import httpx
import psutil

from ratus.v1 import task_service_pb2
from tests.certificates import Authority
from tests.fuzz.crowds import SECONDS, come_back, crowd, files
from tests.fuzz.watching import LONG, SEED, Watched, bad_lines, watched
from tests.server import Server

MANY = 3000 if LONG else 1000  # frames or streams of a connection
CONNECTIONS = 10 if LONG else 3
FLOOD = 1_000_000  # frames that the server has to answer, or to look at
# Most that was measured is 35 MiB, with three connections. A stream takes 1 KiB, with a handler some more, and there is
# what a client has not read, a chunk that waits for its turn, and one message that is put together.
MOST_GROWTH = CONNECTIONS * (MANY * 8 * 1024 + 24 * 1024 * 1024)
STREAMS = 100_000  # that one connection may have open
STREAM_BYTES = 2048  # that one may take which says nothing; measured are 1,100

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, PRIORITY, RESET, SETTINGS, PING, GOAWAY, WINDOW, CONTINUATION = 0, 1, 2, 3, 4, 6, 7, 8, 9


def frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


def headers(path: bytes) -> bytes:
    """The head of a call, in the form of HPACK that needs no tables."""
    fields = {b":method": b"POST", b":scheme": b"http", b":path": path, b":authority": b"x", b"te": b"trailers"}
    fields[b"content-type"] = b"application/grpc"
    return b"".join(b"\0%c%b%c%b" % (len(name), name, len(value), value) for name, value in fields.items())


BEGIN = PREFACE + frame(SETTINGS, 0, 0, b"")
LIST = headers(b"/ratus.v1.TaskService/ListTasks")
GET = headers(b"/ratus.v1.TaskService/GetTask")
POLL = headers(b"/ratus.v1.PromiseService/Poll")
WORK = headers(b"/ratus.v1.PromiseService/Work")


def window(size: int) -> bytes:
    """SETTINGS of the window of all streams."""
    return frame(SETTINGS, 0, 0, struct.pack(">HI", 4, size))


def message(message: bytes) -> bytes:
    return struct.pack(">BI", 0, len(message)) + message


def streams(*frames: Callable[[int], bytes]) -> bytes:
    """The frames of many streams, one stream after the other."""
    return b"".join(make(stream) for stream in range(1, 2 * MANY, 2) for make in frames)


ODDITIES = {
    "a preface that is none": random.Random(SEED).randbytes(100_000),
    "a preface that is cut off": PREFACE[:10],
    "HTTP/1.1": b"GET / HTTP/1.1\r\nHost: x\r\n\r\n" * 100,
    "settings": BEGIN + frame(SETTINGS, 0, 0, struct.pack(">HI", 4, 65_535)) * MANY,
    "settings that are forbidden": BEGIN + frame(SETTINGS, 0, 0, struct.pack(">HI", 4, 2**32 - 1)),
    "pings": BEGIN + frame(PING, 0, 0, b"12345678") * MANY,
    "empty data": BEGIN + frame(HEADERS, 4, 1, GET) + frame(DATA, 0, 1, b"") * MANY,
    "windows that overflow": BEGIN + frame(WINDOW, 0, 0, struct.pack(">I", 2**31 - 1)) * MANY,
    "a head without an end": BEGIN + frame(HEADERS, 0, 1, GET) + frame(CONTINUATION, 0, 1, b"\0\1a\1b" * 3000) * 300,
    "a head that unpacks to much": BEGIN
    + frame(HEADERS, 4, 1, b"\x40\1a\x7f\x80\x1f" + b"y" * 4000 + b"\xbe" * 12_000),
    "rapid resets": BEGIN
    + streams(lambda s: frame(HEADERS, 4, s, GET), lambda s: frame(RESET, 0, s, struct.pack(">I", 8))),
    "rapid resets of streams": BEGIN
    + streams(lambda s: frame(HEADERS, 5, s, POLL), lambda s: frame(RESET, 0, s, struct.pack(">I", 8))),
    "calls without end": BEGIN + streams(lambda s: frame(HEADERS, 4, s, GET)),
    "streams backwards": BEGIN + frame(HEADERS, 4, 9, GET) + frame(HEADERS, 4, 3, GET),
    "a frame that is too long": BEGIN + b"\xff\xff\xff" + bytes(6) + bytes(100_000),
    "unknown frames": BEGIN + frame(200, 0, 0, b"x" * 100) * MANY,
    "a message that is longer than it says": BEGIN
    + frame(HEADERS, 4, 1, GET)
    + frame(DATA, 1, 1, struct.pack(">BI", 0, 2**32 - 1) + b"x"),
    "a message that says it is packed": BEGIN + frame(HEADERS, 4, 1, GET) + frame(DATA, 1, 1, b"\1\0\0\0\1x"),
    "pings that are not read": BEGIN + frame(PING, 0, 0, b"12345678") * FLOOD,
    "settings that are not read": BEGIN + frame(SETTINGS, 0, 0, b"") * FLOOD,
    "priorities": BEGIN + frame(PRIORITY, 0, 1, bytes(5)) * FLOOD,
    "continuations without bytes": BEGIN + frame(HEADERS, 0, 1, GET) + frame(CONTINUATION, 0, 1, b"") * FLOOD,
    "heads in parts": BEGIN
    + b"".join(frame(HEADERS, 0, s, GET) + frame(CONTINUATION, 4, s, b"") for s in range(1, 2 * MANY, 2)),
    "refusals that are not read": BEGIN + streams(lambda s: frame(HEADERS, 5, s, headers(b"/" + b"%" * 200))),
    "malformed heads": BEGIN + b"".join(frame(HEADERS, 5, s, b"\x82") for s in range(1, FLOOD // 4, 2)),
    "a table that is resized": BEGIN + b"".join(frame(HEADERS, 5, s, b"\x20" * 60_000) for s in range(1, 200, 2)),
    "tables that are filled": BEGIN
    + b"".join(
        frame(HEADERS, 5, s, b"\x40\1a\x7f\x81\x1e" + b"y" * 3968 + b"\xbe" * 10) for s in range(1, 2 * MANY, 2)
    ),
    "windows that close and open": BEGIN
    + window(0)
    + streams(lambda s: frame(HEADERS, 4, s, LIST), lambda s: frame(DATA, 1, s, message(b"")))
    + (window(0) + window(1)) * (FLOOD // 20),
    "windows that open by a byte": BEGIN
    + window(0)
    + streams(lambda s: frame(HEADERS, 4, s, LIST), lambda s: frame(DATA, 1, s, message(b"")))
    + streams(lambda s: frame(WINDOW, 0, s, struct.pack(">I", 1))) * 20
    + frame(WINDOW, 0, 0, struct.pack(">I", 1)) * (FLOOD // 20),
    "padding": BEGIN + frame(HEADERS, 4, 1, GET) + frame(DATA, 8, 1, b"\xff" + bytes(255)) * MANY,
    "messages without bytes": BEGIN + frame(HEADERS, 4, 1, WORK) + frame(DATA, 0, 1, bytes(16_000)) * 60,
    "an end": BEGIN + frame(GOAWAY, 0, 0, bytes(8)) + frame(HEADERS, 4, 1, GET),
}


async def canary(channel: grpc.aio.Channel) -> None:
    """Another client is served."""
    get = channel.unary_unary("/ratus.v1.TaskService/GetTask", task_service_pb2.GetTaskRequest.SerializeToString)
    answer = await get(task_service_pb2.GetTaskRequest(id="canary"), timeout=SECONDS)
    assert b"unchanged" in answer


async def say(port: int, data: bytes) -> None:
    """Say it on some connections at once, read nothing, and go as soon as all is sent or the server has had enough."""
    async with crowd(port, CONNECTIONS) as connections:
        for _, writer in connections:
            writer.write(data)
        drained = (asyncio.wait_for(writer.drain(), 2) for _, writer in connections)
        await asyncio.gather(*drained, return_exceptions=True)


async def after(server: Watched, began: int) -> None:
    """Nothing is left of it."""
    open_files = await come_back(lambda: files(server.process), began)
    assert open_files <= began + 5, f"{open_files} files are open, {began} were"


async def test_oddities_of_http2(tmp_path: Path) -> None:
    with watched(tmp_path, growth=MOST_GROWTH) as server:
        async with grpc.aio.insecure_channel(server.server.target) as channel:
            await canary(channel)
            began = files(server.process)
            for name, data in ODDITIES.items():
                for _ in range(3 if LONG else 1):
                    await asyncio.gather(say(server.server.grpc_port, data), canary(channel))
                print(f"HTTP/2: {name}: {server.growth >> 20} MiB grown, canary {server.longest:.2f} s")
            await canary(channel)
            await after(server, began)


async def test_as_many_streams_as_may_be(tmp_path: Path) -> None:
    """Opened at once, by a client that then says nothing on them; and again, on the next connection."""
    fields = [b"\x40" + field for field in GET.split(b"\0")[1:]]
    again = bytes(range(0xBD + len(fields), 0xBD, -1))
    first = frame(HEADERS, 4, 1, b"".join(fields))
    with watched(tmp_path, growth=STREAMS * STREAM_BYTES) as server:
        async with grpc.aio.insecure_channel(server.server.target) as channel:
            for _ in range(2):
                async with crowd(server.server.grpc_port, 1) as [(reader, writer)]:
                    writer.write(BEGIN + first)
                    writer.writelines(frame(HEADERS, 4, stream, again) for stream in range(3, 2 * STREAMS + 3, 2))
                    writer.write(frame(PING, 0, 0, b"all said"))
                    async with asyncio.timeout(SECONDS):
                        heard = await reader.readuntil(b"all said")
                    assert heard.count(frame(RESET, 0, 2 * STREAMS + 1, struct.pack(">I", 7))) == 1
                    assert heard.count(struct.pack(">I", 7)) == 1  # the one that was too many
                    await canary(channel)
                    print(f"HTTP/2: {STREAMS} streams: {server.growth >> 20} MiB grown, canary {server.longest:.2f} s")


HELLO = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + os.urandom(512)
PLAIN = [
    b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
    BEGIN,
    os.urandom(5000),
    b"",
    HELLO,
    HELLO[:5],
    b"\x15\x03\x03\0\2\2\x28",
]


async def test_tls_on_plain_ports(tmp_path: Path) -> None:
    with watched(tmp_path) as server:
        async with grpc.aio.insecure_channel(server.server.target) as channel:
            for port in (server.server.port, server.server.grpc_port):
                for data in PLAIN[2:]:
                    await asyncio.gather(say(port, data), canary(channel))


async def test_plain_text_on_tls_ports(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    shown, log = authority.issue(), tmp_path / "log"
    options = ["--engine", "memory", "--tls-cert", str(shown.cert), "--tls-key", str(shown.key)]
    with Server(log, *options) as server:
        client = httpx.AsyncClient(
            base_url=f"{server.url}/v1/topics/t/tasks/", verify=authority.context(), timeout=SECONDS
        )
        assert (await client.put("canary", json={"payload": "unchanged"})).status_code == 201
        async with grpc.aio.secure_channel(server.target, authority.credentials()) as channel:
            await canary(channel)
            began = psutil.Process(server.process.pid).num_fds()
            for port in (server.port, server.grpc_port):
                for data in PLAIN:
                    await asyncio.gather(say(port, data), canary(channel))
                    assert (await client.get("canary")).json()["payload"] == "unchanged"
            await client.aclose()
            left = await come_back(psutil.Process(server.process.pid).num_fds, began + 5)
            assert left <= began + 5
    assert bad_lines(log) == []
