"""What a call holds of what a client sends, without a socket."""

import asyncio
import gc
import gzip
import weakref
from typing import Any

import grpc
import pytest
from prometheus_client import CollectorRegistry

from ratus.errors import TooLarge
from ratus.http2 import frames
from ratus.http2.outgoing import STREAM_WINDOW
from ratus.rpc.call import MAX_HELD, Call, Method, Request
from ratus.rpc.calls import Calls
from ratus.rpc.messages import ENCODINGS, Message
from ratus.rpc.metrics import RPCMetrics
from tests.http2.peer import Noting, Peer, data, of, turns


class Handling(Noting):
    """An application of calls that a handler reads as slowly as it is told to."""

    def __init__(self, encoding: bytes = b"identity") -> None:
        super().__init__()
        self.may_read = asyncio.Event()
        self.got: list[bytes] = []
        self.errors: list[Exception] = []
        self._encoding = encoding

    async def _serve(self, call: Call, message: Message | None) -> None:
        await self.may_read.wait()
        try:
            async for message in call:
                self.got.append(message)
        except TooLarge as error:
            self.errors.append(error)
        call.succeed()

    def open(self, connection: Any, number: int, request: Any) -> Call:
        method = Method(self._serve, bytes, streamed=True, finished=False)
        call = Call(connection, number, method, Request(method, encoding=self._encoding))
        self.streams.append(call)  # type: ignore[arg-type]
        return call


async def test_messages_that_nobody_takes_close_the_window() -> None:
    handling = Handling()
    peer = await Peer(handling).begun()
    peer.open(1)
    sent = 0
    message = b"\0\0\0\x03\xe8" + bytes(1000)
    while sent + 1005 <= STREAM_WINDOW:
        peer.say(data(1, message))
        sent += 1005
    assert not of(frames.WINDOW_UPDATE, await peer.hear())
    handling.may_read.set()
    [update] = of(frames.WINDOW_UPDATE, await peer.hear())
    assert update.stream == 1
    assert len(handling.got) == sent // 1005


async def test_messages_without_bytes_close_the_window_too() -> None:
    """Each takes memory, whatever is in it."""
    handling = Handling()
    peer = await Peer(handling).begun()
    peer.open(1)
    [call] = handling.streams
    allowed, sent = STREAM_WINDOW, 0
    while allowed >= 5000:
        peer.say(data(1, bytes(5000)))
        allowed, sent = allowed - 5000, sent + 1000
        allowed += sum(frame.number for frame in of(frames.WINDOW_UPDATE, await peer.hear()))
    assert call._held >= MAX_HELD  # type: ignore[attr-defined]
    assert sent <= STREAM_WINDOW // 5
    handling.may_read.set()
    assert of(frames.WINDOW_UPDATE, await peer.hear())
    assert handling.got == [b""] * sent
    assert call._held == 0  # type: ignore[attr-defined]


async def test_what_is_held_counts_messages_that_wait_and_what_has_come_of_the_next() -> None:
    handling = Handling()
    peer = await Peer(handling).begun()
    peer.open(1)
    [call] = handling.streams
    assert call.held() == 0
    peer.say(data(1, b"\0\0\0\x03\xe8" + bytes(1000) + b"\0\1\0\0\0" + bytes(3000)))
    assert 4005 <= call.held() < 4205
    handling.may_read.set()
    await turns()
    assert call.held() == 3005


async def test_messages_stay_packed_until_they_are_taken() -> None:
    handling = Handling(b"gzip")
    peer = await Peer(handling).begun()
    peer.open(1)
    assert b"gzip" in ENCODINGS
    packed = gzip.compress(bytes(10_000_000))
    said = b"\1" + len(packed).to_bytes(4, "big") + packed
    for at in range(0, 3 * len(said), 16_000):
        peer.say(data(1, (said * 3)[at : at + 16_000]))
    [call] = handling.streams
    await turns()
    assert call._held < 4 * len(said)  # type: ignore[attr-defined]
    handling.may_read.set()
    await turns()
    assert list(map(len, handling.got)) == [10_000_000] * 3


@pytest.mark.parametrize("how", ["reset", "deadline", "lost"])
async def test_a_call_that_is_given_up_leaves_nothing_to_the_garbage_collector(how: str) -> None:
    calls = Calls(RPCMetrics(CollectorRegistry()))
    tasks: list[weakref.ref[Any]] = []

    async def wait(requests: Any, context: Any) -> None:
        tasks.append(weakref.ref(asyncio.current_task()))
        async for _ in requests:
            pass

    handler = grpc.stream_stream_rpc_method_handler(wait, bytes, bytes)
    calls.add_registered_method_handlers("x.X", {"Wait": handler})
    peer = await Peer(calls).begun()
    more = [(b"content-type", b"application/grpc")] + [(b"grpc-timeout", b"1m")] * (how == "deadline")
    gc.collect()
    gc.disable()
    try:
        peer.say(frames.frame(frames.HEADERS, frames.END_HEADERS, 1, peer.block(b"/x.X/Wait", *more)))
        async with asyncio.timeout(30):
            while not tasks:
                await turns()
            if how == "reset":
                peer.say(frames.rst_stream(1, frames.Code.CANCEL))
            elif how == "lost":
                peer.connection.abort()
                peer.lose()
            while peer.connection._streams or peer.connection._lingering:
                await turns()
            await turns()
        assert tasks[0]() is None
    finally:
        gc.enable()
