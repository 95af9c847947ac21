"""Real sockets: TLS, silence, drains, and a client that others have written."""

import asyncio
import contextlib
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from ratus.config import Listen
from ratus.http2 import frames, listener, outgoing
from ratus.http2.connection import Connection
from ratus.http2.frames import Code
from ratus.http2.listener import Listener
from ratus.http2.stream import Stream
from ratus.listening import bind
from tests.certificates import Authority
from tests.http2.client import SECONDS, Client, client
from tests.http2.peer import BEGIN, END, HEAD, OPEN, Noted, Noting, Transport


class Echo(Noted):
    """Answers with what it gets, once it has all of it."""

    def received(self, data: bytes) -> None:
        super().received(data)
        self.allow()

    def received_all(self) -> None:
        self.connection.answer(self, OPEN, b"".join(self.data), END)


class Echoing(Noting):
    def open(self, connection: Any, number: int, request: Any) -> Stream:
        self.streams.append(Echo(connection, number, request))
        return self.streams[-1]


class Served:
    def __init__(self, listener: Listener[Any], application: Echoing, port: int) -> None:
        self.listener, self.application, self.port = listener, application, port


@asynccontextmanager
async def serve(context: ssl.SSLContext | None = None) -> AsyncIterator[Served]:
    application = Echoing()
    served: Listener[Any] = Listener(application)
    sockets = bind("test", Listen("127.0.0.1", 0))
    await served.start(sockets, context)
    try:
        yield Served(served, application, sockets[0].getsockname()[1])
    finally:
        await served.drain(0)


@pytest.fixture
async def served() -> AsyncIterator[Served]:
    async with serve() as served:
        yield served


async def echo(client: Client, message: bytes) -> bytes:
    """What comes back; a message that takes more than the windows goes out as they open."""
    number = client.open(HEAD)
    while message:
        await client.until(lambda: client.h2.local_flow_control_window(number) > 0)
        room = client.h2.local_flow_control_window(number)
        client.send(number, message[:room])
        message = message[room:]
    client.send(number, b"", end=True)
    await client.end_of(number)
    assert client.heads[number] == [{b":status": b"200"}, {b"end": b"0"}]
    return client.data[number]


async def test_a_client_of_others(served: Served) -> None:
    large = bytes(range(256)) * 40_000
    async with client(served.port) as one, client(served.port) as other:
        assert await echo(one, b"hello") == b"hello"
        assert await echo(one, b"") == b""
        assert await asyncio.gather(echo(one, large), echo(other, large)) == [large, large]
        assert await asyncio.gather(*(echo(one, b"%d" % number) for number in range(90))) == [
            b"%d" % number for number in range(90)
        ]
    assert all(stream.closed for stream in served.application.streams)


async def test_a_client_that_opens_no_window_gets_nothing_more_and_then_all_in_order(served: Served) -> None:
    message = bytes(index % 251 for index in range(700_000))
    async with client(served.port, stingy=True) as slow:
        number = slow.open(HEAD)
        slow.send(number, message, end=True)
        await slow.until(lambda: len(slow.data[number]) == frames.DEFAULT_WINDOW)
        slow.h2.ping(b"whatever")
        slow.flush()
        async with client(served.port) as other:
            assert await echo(other, b"meanwhile") == b"meanwhile"
        [stream] = served.application.streams[:1]
        assert stream.connection.unsent == len(message) - frames.DEFAULT_WINDOW
        assert len(slow.data[number]) == frames.DEFAULT_WINDOW
        slow.h2.increment_flow_control_window(1 << 20)
        slow.h2.increment_flow_control_window(1 << 20, number)
        slow.flush()
        await slow.end_of(number)
        assert slow.data[number] == message


def contexts(directory: Path) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """How a server shows itself, and how a client trusts it."""
    authority = Authority(directory)
    pair = authority.issue()
    ours, trusting = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH), authority.context()
    ours.load_cert_chain(pair.cert, pair.key)
    for context in (ours, trusting):
        context.set_alpn_protocols(["h2"])
    return ours, trusting


async def test_tls(tmp_path: Path) -> None:
    ours, trusting = contexts(tmp_path)
    large = bytes(range(256)) * 10_000
    async with serve(ours) as served, client(served.port, context=trusting) as one:
        assert await echo(one, b"hello") == b"hello"
        assert await echo(one, large) == large
        await served.listener.drain(SECONDS)
        await one.until(lambda: one.lost)
        assert [goaway.last_stream_id for goaway in one.goaways] == [frames.LAST_STREAM, 3]


@pytest.mark.parametrize("tls", [False, True])
async def test_a_flood_that_is_not_read_stops_and_goes_on_when_it_is(tls: bool, tmp_path: Path) -> None:
    ours, trusting = contexts(tmp_path) if tls else (None, None)
    count, ping = 500_000, frames.frame(frames.PING, 0, 0, b"12345678")
    async with serve(ours) as served, crowd_of_one(served.port, trusting) as (reader, writer):
        writer.write(BEGIN + ping * count + frames.frame(frames.PING, 0, 0, b"the last"))
        await until(lambda: [c for c in served.listener._connections if c._choked])
        [connection] = served.listener._connections
        assert connection._transport.get_write_buffer_size() < 2 * outgoing.MAX_UNREAD
        async with client(served.port, context=trusting) as other:
            assert await echo(other, b"meanwhile") == b"meanwhile"
        pong, answered, rest = frames.frame(frames.PING, frames.ACK, 0, b"12345678"), 0, b""
        async with asyncio.timeout(SECONDS):
            while b"the last" not in rest:
                heard = rest + await reader.read(1 << 16)
                answered += heard.count(pong)
                rest = heard[heard.rfind(pong) + len(pong) :] if pong in heard else heard
        assert answered == count


async def test_a_drain_waits_for_streams_and_ends_them_after_its_time(served: Served) -> None:
    async with client(served.port) as one, client(served.port) as other:
        first, second = one.open(HEAD), other.open(HEAD)
        await until(lambda: len(served.application.streams) == 2)
        drain = asyncio.create_task(served.listener.drain(5))
        await one.until(lambda: one.goaways)
        one.send(first, b"late", end=True)
        await one.end_of(first)
        assert one.data[first] == b"late"
        await one.until(lambda: one.lost)
        await other.until(lambda: other.lost)
        assert other.resets == {second: Code.CANCEL}
        await drain
    with pytest.raises(OSError):
        await asyncio.open_connection("127.0.0.1", served.port)


async def test_a_drain_ends_clients_that_read_nothing(served: Served) -> None:
    async with crowd_of_one(served.port) as (_, writer):
        writer.write(BEGIN + frames.window_update(0, 1 << 30))
        writer.write(frames.settings({frames.INITIAL_WINDOW_SIZE: 1 << 30}))
        await until(lambda: len(served.listener._connections) == 1)
        [connection] = served.listener._connections
        await until(lambda: connection.initial_window == 1 << 30)
        for number in range(1, 41, 2):
            stream = Echo(connection, number, served.application.read([]))
            connection._streams[number] = stream
            connection.answer(stream, OPEN, bytes(1_000_000), END)
        assert connection.unsent
        async with asyncio.timeout(SECONDS):
            await served.listener.drain(0.1)
        assert not served.listener._connections


async def test_a_connection_that_comes_in_while_a_drain_begins_is_ended(served: Served) -> None:
    await served.listener.drain(0)
    late = Connection(served.application, served.listener)
    transport = Transport()
    late.connection_made(transport)
    assert transport.aborted


async def test_a_silent_client_is_asked_and_ended(served: Served) -> None:
    async with client(served.port) as lively, crowd_of_one(served.port) as (reader, writer):
        writer.write(BEGIN)
        await until(lambda: [c.greeted for c in served.listener._connections] == [True, True])
        pass_time(served, listener.KEEPALIVE + 1)
        await lively.until(lambda: lively.pings)
        await until(lambda: len([c for c in served.listener._connections if c.silence() < listener.KEEPALIVE]) == 1)
        pass_time(served, listener.KEEPALIVE_TIMEOUT)
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            async with asyncio.timeout(SECONDS):
                await reader.readuntil(b"alive..?")
                assert b"alive..?" not in await reader.read(-1)  # until it is ended
        assert len(lively.pings) == 1
        assert await echo(lively, b"I answer") == b"I answer"


def pass_time(served: Served, seconds: float) -> None:
    """Let connections have been silent for so long more, and be looked after, twice."""
    for connection in served.listener._connections:
        connection._heard -= seconds
    for _ in range(2):
        served.listener._tell(served.listener._look_after)


@pytest.mark.parametrize("begin", [b"", frames.PREFACE, BEGIN[:-1]])
async def test_who_does_not_speak_http2_in_time_is_ended(
    begin: bytes, served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with client(served.port) as other:
        assert await echo(other, b"I do") == b"I do"
        monkeypatch.setattr(Listener, "handshake_timeout", 0.2)
        await look_often(served, monkeypatch)
        async with crowd_of_one(served.port) as (reader, writer), asyncio.timeout(SECONDS):
            for byte in begin:
                writer.write(bytes([byte]))
                await asyncio.sleep(0.02)  # which does not count as speaking
            with contextlib.suppress(ConnectionError):
                while await reader.read(100):
                    pass
        assert await echo(other, b"I did") == b"I did"


async def test_a_client_that_does_not_read_the_reason_is_not_waited_for(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An end that is never read would hold the connection otherwise."""
    async with crowd_of_one(served.port) as (_, writer):
        writer.write(BEGIN + frames.window_update(0, 1 << 30))
        writer.write(frames.settings({frames.INITIAL_WINDOW_SIZE: 1 << 30}))
        await until(lambda: served.listener._connections)
        [connection] = served.listener._connections
        await until(lambda: connection.initial_window == 1 << 30)
        number = 1
        while not connection._full:
            stream = Echo(connection, number, served.application.read([]))
            connection._streams[number] = stream
            connection.answer(stream, OPEN, bytes(1_000_000), END)
            number += 2
            await asyncio.sleep(0)
        writer.write(frames.frame(frames.PING, 0, 1, bytes(8)))
        await until(lambda: connection.closing)
        assert served.listener._connections
        monkeypatch.setattr(listener, "KEEPALIVE_TIMEOUT", 0.1)
        await look_often(served, monkeypatch)
        await until(lambda: not served.listener._connections)


@asynccontextmanager
async def crowd_of_one(
    port: int, context: ssl.SSLContext | None = None
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """A client that reads nothing by itself, and takes little."""
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8192)
    sock.setblocking(False)
    await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", port))
    reader, writer = await asyncio.open_connection(
        sock=sock, limit=4096, ssl=context, server_hostname="localhost" if context else None
    )
    try:
        yield reader, writer
    finally:
        writer.transport.abort()


async def look_often(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    """Look after connections more often than is needed in earnest."""
    monkeypatch.setattr(listener, "_LOOK_INTERVAL", 0.05)
    assert served.listener._watch is not None
    served.listener._watch.cancel()
    served.listener._watch = asyncio.create_task(served.listener._look_after_all())


async def until(state: Any) -> None:
    """Wait for a state of the server."""
    async with asyncio.timeout(SECONDS):
        while not state():  # noqa: ASYNC110 (it tells nobody)
            await asyncio.sleep(0.01)
