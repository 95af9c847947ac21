"""What a client must not do: each ends its stream or its connection, with the code that the protocol names."""

import logging
import struct

import pytest

from ratus.http2 import frames, incoming
from ratus.http2.frames import ACK, END_HEADERS, END_STREAM, PADDED, WITH_PRIORITY, Code, frame, window_update
from ratus.http2.outgoing import FRAME, STREAM_WINDOW
from tests.http2.peer import BEGIN, Peer, data, of, resets

MAX = frames.MAX_WINDOW
LONG = struct.Struct(">I").pack
HEAD = b"\x83\x86\x04\2/x\x01\1y"  # POST, http, /x, y; leaves the table as it is


def setting(key: int, value: int) -> bytes:
    return frames.settings({key: value})


OPENED = frame(frames.HEADERS, END_HEADERS, 1, HEAD)
HALF = frame(frames.HEADERS, 0, 1, HEAD)
CONNECTION_FAULTS = {
    "data of an idle stream": (Code.PROTOCOL_ERROR, data(1, b"x")),
    "data of no stream": (Code.PROTOCOL_ERROR, OPENED + data(0, b"x")),
    "data of a stream that only servers open": (Code.PROTOCOL_ERROR, OPENED + data(2, b"x")),
    "data with more padding than payload": (Code.PROTOCOL_ERROR, OPENED + data(1, b"\3ab", PADDED)),
    "data with padding and no payload": (Code.PROTOCOL_ERROR, OPENED + data(1, b"", PADDED)),
    "a head of an even stream": (Code.PROTOCOL_ERROR, frame(frames.HEADERS, END_HEADERS, 2, HEAD)),
    "a head of no stream": (Code.PROTOCOL_ERROR, frame(frames.HEADERS, END_HEADERS, 0, HEAD)),
    "a head with too much padding": (
        Code.PROTOCOL_ERROR,
        frame(frames.HEADERS, END_HEADERS | PADDED, 1, b"\xff" + HEAD),
    ),
    "a head without its priority": (
        Code.FRAME_SIZE_ERROR,
        frame(frames.HEADERS, END_HEADERS | WITH_PRIORITY, 1, b"1234"),
    ),
    "a head that is no HPACK": (Code.COMPRESSION_ERROR, frame(frames.HEADERS, END_HEADERS, 1, b"\xff\xff\xff")),
    "trailers that are no HPACK": (
        Code.COMPRESSION_ERROR,
        OPENED + frame(frames.HEADERS, END_HEADERS | END_STREAM, 1, b"\xff\xff\xff"),
    ),
    "CONTINUATION of nothing": (Code.PROTOCOL_ERROR, OPENED + frame(frames.CONTINUATION, END_HEADERS, 1, b"")),
    "CONTINUATION of another stream": (Code.PROTOCOL_ERROR, HALF + frame(frames.CONTINUATION, END_HEADERS, 3, b"")),
    "a ping within a head": (Code.PROTOCOL_ERROR, HALF + frame(frames.PING, 0, 0, bytes(8))),
    "an unknown frame within a head": (Code.PROTOCOL_ERROR, HALF + frame(77, 0, 1, b"")),
    "a head within a head": (Code.PROTOCOL_ERROR, HALF + OPENED),
    "a frame that is too long": (Code.FRAME_SIZE_ERROR, frames.HEAD.pack(FRAME >> 8, FRAME & 0xFF | 1, 0, 0, 1)),
    "PRIORITY of no stream": (Code.PROTOCOL_ERROR, frame(frames.PRIORITY, 0, 0, bytes(5))),
    "PRIORITY that is too short": (Code.FRAME_SIZE_ERROR, frame(frames.PRIORITY, 0, 1, bytes(4))),
    "RST_STREAM that is too short": (Code.FRAME_SIZE_ERROR, OPENED + frame(frames.RST_STREAM, 0, 1, bytes(3))),
    "RST_STREAM of an idle stream": (Code.PROTOCOL_ERROR, frame(frames.RST_STREAM, 0, 1, bytes(4))),
    "RST_STREAM of no stream": (Code.PROTOCOL_ERROR, OPENED + frame(frames.RST_STREAM, 0, 0, bytes(4))),
    "SETTINGS of a stream": (Code.PROTOCOL_ERROR, frame(frames.SETTINGS, 0, 1, b"")),
    "SETTINGS of five bytes": (Code.FRAME_SIZE_ERROR, frame(frames.SETTINGS, 0, 0, bytes(5))),
    "an acknowledgement with settings": (Code.FRAME_SIZE_ERROR, frame(frames.SETTINGS, ACK, 0, bytes(6))),
    "a window that is too large at first": (Code.FLOW_CONTROL_ERROR, setting(frames.INITIAL_WINDOW_SIZE, MAX + 1)),
    "frames that may be too short": (Code.PROTOCOL_ERROR, setting(frames.MAX_FRAME_SIZE, 16_383)),
    "frames that may be too long": (Code.PROTOCOL_ERROR, setting(frames.MAX_FRAME_SIZE, 1 << 24)),
    "pushes that are neither wanted nor not": (Code.PROTOCOL_ERROR, setting(frames.ENABLE_PUSH, 2)),
    "a window that settings make too large": (
        Code.FLOW_CONTROL_ERROR,
        OPENED + window_update(1, MAX - frames.DEFAULT_WINDOW) + setting(frames.INITIAL_WINDOW_SIZE, 65_536),
    ),
    "PUSH_PROMISE": (Code.PROTOCOL_ERROR, OPENED + frame(frames.PUSH_PROMISE, END_HEADERS, 1, bytes(4) + HEAD)),
    "PING of a stream": (Code.PROTOCOL_ERROR, frame(frames.PING, 0, 1, bytes(8))),
    "PING of seven bytes": (Code.FRAME_SIZE_ERROR, frame(frames.PING, 0, 0, bytes(7))),
    "GOAWAY of a stream": (Code.PROTOCOL_ERROR, frame(frames.GOAWAY, 0, 1, bytes(8))),
    "GOAWAY that is too short": (Code.FRAME_SIZE_ERROR, frame(frames.GOAWAY, 0, 0, bytes(7))),
    "WINDOW_UPDATE of three bytes": (Code.FRAME_SIZE_ERROR, frame(frames.WINDOW_UPDATE, 0, 0, bytes(3))),
    "a window that does not grow": (Code.PROTOCOL_ERROR, window_update(0, 0)),
    "a window that grows too large": (Code.FLOW_CONTROL_ERROR, window_update(0, MAX)),
    "a window of an idle stream": (Code.PROTOCOL_ERROR, window_update(1, 1)),
    "a window of a stream that only servers open": (Code.PROTOCOL_ERROR, OPENED + window_update(2, 1)),
}


@pytest.mark.parametrize("name", CONNECTION_FAULTS)
async def test_faults_that_end_the_connection(name: str) -> None:
    code, said = CONNECTION_FAULTS[name]
    peer = await Peer().begun()
    peer.say(said)
    goaway = (await peer.hear())[-1]
    assert goaway.kind == frames.GOAWAY
    last, said_code = struct.unpack_from(">II", goaway.payload)
    assert (last, Code(said_code)) == (1 if peer.application.streams or "HPACK" in name else 0, code)
    assert goaway.payload[8:]  # why, for who looks at it
    assert peer.transport.closed
    assert [stream.lost for stream in peer.application.streams] == [1] * len(peer.application.streams)
    peer.say(frame(frames.PING, 0, 0, bytes(8)))  # too late
    assert not await peer.hear()
    peer.lose()
    assert (peer.everyone, peer.losses) == (set(), 1)


@pytest.mark.parametrize(
    "begin",
    [
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        b"PRI * HTTP/1",
        frames.PREFACE + frame(frames.PING, 0, 0, bytes(8)),
        frames.PREFACE + frame(frames.SETTINGS, ACK, 0, b""),
    ],
)
async def test_what_is_not_http2_from_the_first_is_ended(begin: bytes) -> None:
    peer = Peer(begin=begin)
    goaway = (await peer.hear())[-1]
    assert goaway.kind == frames.GOAWAY
    assert goaway.payload[4:8] == LONG(Code.PROTOCOL_ERROR)
    assert peer.transport.closed
    assert not peer.connection.greeted


async def test_a_beginning_may_come_byte_by_byte() -> None:
    peer = Peer(begin=b"")
    for byte in BEGIN + OPENED + data(1, b"abc") + data(1, b"d", END_STREAM):
        peer.say(bytes([byte]))
    [stream] = peer.application.streams
    assert (b"".join(stream.data), stream.all) == (b"abcd", 1)
    await peer.begun()


STREAM_FAULTS = {
    "a malformed head": (
        Code.PROTOCOL_ERROR,
        frame(frames.HEADERS, END_HEADERS, 1, b"\x83\x86\x04\x0a/malformed\x01\1y"),
    ),
    "data behind the end": (Code.STREAM_CLOSED, OPENED + data(1, b"", END_STREAM) + data(1, b"x")),
    "more data than was allowed": (
        Code.FLOW_CONTROL_ERROR,
        OPENED + data(1, bytes(FRAME)) * (STREAM_WINDOW // FRAME) + data(1, b"x"),
    ),
    "more padding than was allowed": (
        Code.FLOW_CONTROL_ERROR,
        OPENED + data(1, b"\xff" + bytes(255), PADDED) * (STREAM_WINDOW // 256) + data(1, b"\0", PADDED),
    ),
    "a second head": (Code.PROTOCOL_ERROR, OPENED * 2),
    "trailers with what only heads have": (
        Code.PROTOCOL_ERROR,
        OPENED + frame(frames.HEADERS, END_HEADERS | END_STREAM, 1, HEAD),
    ),
    "trailers behind the end": (
        Code.STREAM_CLOSED,
        OPENED + data(1, b"", END_STREAM) + frame(frames.HEADERS, END_HEADERS | END_STREAM, 1, b"\0\1a\1b"),
    ),
    "a window that does not grow": (Code.PROTOCOL_ERROR, OPENED + window_update(1, 0)),
    "a window that grows too large": (Code.FLOW_CONTROL_ERROR, OPENED + window_update(1, MAX)),
}


@pytest.mark.parametrize("name", STREAM_FAULTS)
async def test_faults_that_end_the_stream_alone(name: str) -> None:
    code, said = STREAM_FAULTS[name]
    peer = await Peer().begun()
    peer.say(said)
    assert resets(await peer.hear()) == [(1, code)]
    assert [stream.lost for stream in peer.application.streams] == [1] * len(peer.application.streams)
    peer.say(data(1, b"still on its way"), window_update(1, 1))  # is ignored
    assert peer.open(3) is not None
    assert not resets(await peer.hear())
    assert not peer.transport.closed


async def test_what_nobody_needs_is_ignored() -> None:
    peer = await Peer().begun()
    stream = peer.open(1)
    peer.say(
        frame(frames.PRIORITY, 0, 1, bytes(5)),
        frame(77, 0xFF, 9, b"of an extension"),
        frames.settings({77: 1}),
        frame(frames.PING, ACK, 0, b"unasked!"),
        frame(frames.GOAWAY, 0, 0, bytes(8)),
        frame(frames.SETTINGS, ACK, 0, b""),
        data(1, b"x"),
    )
    assert [(frame.kind, frame.flags) for frame in await peer.hear()] == [(frames.SETTINGS, ACK)]
    assert stream.data == [b"x"]


async def test_a_ping_is_answered_with_what_it_says() -> None:
    peer = await Peer().begun()
    peer.say(frame(frames.PING, 0, 0, b"12345678"))
    [pong] = await peer.hear()
    assert (pong.kind, pong.flags, pong.payload) == (frames.PING, ACK, b"12345678")


@pytest.mark.parametrize("path", [b"/broken", b"/unopenable"])
async def test_a_bug_of_the_application_ends_the_connection_and_is_told(
    path: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    peer = await Peer().begun()
    other = peer.open(1)
    with caplog.at_level(logging.ERROR):
        peer.open(3, path)
    [goaway] = await peer.hear()
    assert goaway.payload == LONG(3) + LONG(Code.INTERNAL_ERROR)
    assert peer.transport.closed
    assert other.lost == 1
    assert "ZeroDivisionError" in caplog.text


async def test_a_head_may_come_in_parts_with_padding_and_priority() -> None:
    peer = await Peer().begun()
    priority = bytes(5)
    first = frame(frames.HEADERS, PADDED | WITH_PRIORITY | END_STREAM, 1, b"\2" + priority + HEAD[:3] + b"\0\0")
    middle = frame(frames.CONTINUATION, 0, 1, b"")
    peer.say(first, middle, frame(frames.CONTINUATION, END_HEADERS, 1, HEAD[3:]))
    [stream] = peer.application.streams
    assert stream.request.fields == [
        (b":method", b"POST"),
        (b":scheme", b"http"),
        (b":path", b"/x"),
        (b":authority", b"y"),
    ]
    assert stream.all == 1


async def test_trailers_end_what_the_client_says() -> None:
    peer = await Peer().begun()
    stream = peer.open(1)
    peer.say(data(1, b"x"), frame(frames.HEADERS, END_HEADERS | END_STREAM, 1, b"\0\1a\1b"))
    assert (stream.data, stream.all, stream.lost) == ([b"x"], 1, 0)
    assert not await peer.hear()


async def test_trailers_of_a_stream_that_we_have_ended_are_ignored_but_read() -> None:
    peer = await Peer().begun()
    peer.connection.reset(peer.open(1).number, Code.CANCEL)
    await peer.hear()
    peer.say(frame(frames.HEADERS, END_HEADERS | END_STREAM, 1, b"\x40\1a\1b"))  # changes the table
    peer.say(frame(frames.HEADERS, END_HEADERS, 3, HEAD + b"\xbe"))  # which this uses
    assert peer.application.streams[-1].request.fields[-1] == (b"a", b"b")
    assert not of(frames.RST_STREAM, await peer.hear())


async def test_a_header_block_has_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(incoming, "MAX_BLOCK", 100)
    peer = await Peer().begun()
    peer.say(HALF, frame(frames.CONTINUATION, 0, 1, b"") * 10)
    assert not await peer.hear()
    peer.say(frame(frames.CONTINUATION, 0, 1, b""))
    [goaway] = await peer.hear()
    assert goaway.payload[4:8] == LONG(Code.ENHANCE_YOUR_CALM)
    assert peer.transport.closed
