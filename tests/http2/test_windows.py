"""Flow control: what a client may send, and what it gets."""

import asyncio

import pytest

from ratus.http2 import frames
from ratus.http2.errors import StreamClosed
from ratus.http2.frames import END_STREAM, PADDED, Code, window_update
from ratus.http2.incoming import CONNECTION_WINDOW
from ratus.http2.outgoing import FRAME, STREAM_WINDOW
from ratus.http2.stream import Stream
from tests.http2.peer import END, OPEN, Frame, Peer, data, of, resets

WIDE = window_update(0, 1 << 30)  # the connection shall not be what is in the way


def answered(heard: list[Frame], number: int) -> bytes:
    """The data of a stream."""
    return b"".join(frame.payload for frame in of(frames.DATA, heard) if frame.stream == number)


def reply(stream: Stream, *messages: bytes) -> None:
    stream.begin(OPEN)
    for message in messages:
        stream.send(message)
    stream.finish(END)


def initial_window(size: int) -> bytes:
    return frames.settings({frames.INITIAL_WINDOW_SIZE: size})


# What comes in


async def test_the_window_of_the_connection_is_given_back_also_for_streams_that_are_gone() -> None:
    peer = await Peer().begun()
    peer.connection.reset(peer.open(1).number, Code.CANCEL)
    assert resets(await peer.hear()) == [(1, Code.CANCEL)]
    count = CONNECTION_WINDOW // 2 // FRAME
    peer.say(*[data(1, b"\xff" + bytes(FRAME - 1), PADDED)] * (count - 1))
    assert not await peer.hear()
    peer.say(data(1, bytes(FRAME)))
    [update] = await peer.hear()
    assert (update.kind, update.stream, update.number) == (frames.WINDOW_UPDATE, 0, CONNECTION_WINDOW // 2)


async def test_the_window_of_a_stream_is_given_back_when_it_wants_more() -> None:
    peer = await Peer().begun()
    stream = peer.open(1)
    peer.say(*[data(1, bytes(FRAME))] * (STREAM_WINDOW // 2 // FRAME))
    assert not await peer.hear()
    stream.allow()
    [update] = await peer.hear()
    assert (update.stream, update.number) == (1, STREAM_WINDOW // 2)
    peer.say(*[data(1, bytes(FRAME))] * (STREAM_WINDOW // FRAME))
    assert not await peer.hear()
    stream.allow()
    [update] = await peer.hear()
    assert (update.stream, update.number) == (1, STREAM_WINDOW)


async def test_no_window_is_given_back_behind_the_end() -> None:
    peer = await Peer().begun()
    stream = peer.open(1)
    peer.say(*[data(1, bytes(FRAME))] * (STREAM_WINDOW // FRAME - 1), data(1, bytes(FRAME), END_STREAM))
    stream.allow()
    assert not await peer.hear()


async def test_padding_alone_is_told_to_the_stream() -> None:
    """It takes room in the window, which is given back when something is told."""
    peer = await Peer().begun()
    stream = peer.open(1)
    peer.say(data(1, b"\2\0\0", PADDED), data(1, b""))
    assert (stream.data, stream.owed) == ([b""], 3)


# What goes out


async def test_an_answer_goes_out_whole_where_there_is_room() -> None:
    peer = await Peer().begun()
    stream = peer.open(1, flags=END_STREAM)
    peer.connection.answer(stream, OPEN, b"data", END)
    head, body, trailers = await peer.hear()
    assert (head.kind, head.payload, head.flags) == (frames.HEADERS, OPEN, frames.END_HEADERS)
    assert (body.kind, body.payload, body.flags) == (frames.DATA, b"data", 0)
    assert (trailers.payload, trailers.flags) == (END, frames.END_HEADERS | END_STREAM)
    assert (stream.closed, stream.lost) == (True, 0)


async def test_an_answer_before_the_client_has_said_all_tells_it_to_stop() -> None:
    peer = await Peer().begun()
    peer.connection.answer(peer.open(1), OPEN, b"data", END)
    assert resets(await peer.hear()) == [(1, Code.NO_ERROR)]


@pytest.mark.parametrize("size", [0, 1, frames.DEFAULT_FRAME, frames.DEFAULT_FRAME + 1, 3 * frames.DEFAULT_WINDOW])
@pytest.mark.parametrize("window", [0, 1, 1000])
async def test_answers_keep_to_the_window_of_the_stream(size: int, window: int) -> None:
    message = bytes(index % 251 for index in range(size))
    peer = await Peer().begun()
    peer.say(WIDE, initial_window(window))
    await peer.hear()
    stream = peer.open(1, flags=END_STREAM)
    peer.connection.answer(stream, OPEN, message, END)
    heard = await peer.hear()
    got = answered(heard, 1)
    assert len(got) == min(size, window)
    while len(got) < size:
        assert heard[-1].flags & END_STREAM == 0
        assert peer.connection.unsent == size - len(got)
        peer.say(window_update(1, min(10_000, size - len(got))))
        more = answered(heard := await peer.hear(), 1)
        assert len(more) == min(10_000, size - len(got))
        got += more
    if stream.out:  # nothing, which waits too
        peer.say(window_update(1, 1))
        heard = await peer.hear()
    assert got == message
    assert (heard[-1].payload, heard[-1].flags) == (END, frames.END_HEADERS | END_STREAM)
    assert (peer.connection.unsent, stream.closed) == (0, True)


async def test_answers_keep_to_the_window_of_the_connection_in_turn() -> None:
    peer = await Peer().begun()
    peer.say(initial_window(1 << 20))
    streams = [peer.open(number, flags=END_STREAM) for number in (1, 3, 5)]
    for stream in streams:
        reply(stream, bytes([stream.number]) * 100_000)
    got = {number: len(answered(await peer.hear(), number)) if number == 1 else 0 for number in (1, 3, 5)}
    assert got == {1: frames.DEFAULT_WINDOW, 3: 0, 5: 0}
    order: list[int] = []
    while sum(got.values()) < 300_000:
        peer.say(window_update(0, 50_000))
        heard = await peer.hear()
        order += [frame.stream for frame in of(frames.DATA, heard)]
        for number in got:
            got[number] += len(answered(heard, number))
    assert got == {1: 100_000, 3: 100_000, 5: 100_000}
    assert order.index(5) < len(order) - 1 - order[::-1].index(3)  # none waits until another has had all
    assert all(stream.closed for stream in streams)


async def test_frames_are_as_long_as_the_client_takes_and_no_longer() -> None:
    peer = await Peer().begun()
    peer.say(WIDE, frames.settings({frames.INITIAL_WINDOW_SIZE: 1 << 20, frames.MAX_FRAME_SIZE: 20_000}))
    await peer.hear()
    peer.connection.answer(peer.open(1), OPEN, bytes(50_000), END)
    assert [len(frame.payload) for frame in of(frames.DATA, await peer.hear())] == [20_000, 20_000, 10_000]
    peer.say(frames.settings({frames.MAX_FRAME_SIZE: frames.MAX_FRAME}))
    await peer.hear()
    peer.connection.answer(peer.open(3), OPEN, bytes(FRAME + 1), END)
    assert [len(frame.payload) for frame in of(frames.DATA, await peer.hear())] == [FRAME, 1]


async def test_settings_change_windows_of_open_streams_also_below_nothing() -> None:
    peer = await Peer().begun()
    peer.say(WIDE, initial_window(100))
    stream = peer.open(1, flags=END_STREAM)
    reply(stream, bytes(200))
    assert len(answered(await peer.hear(), 1)) == 100
    peer.say(initial_window(40))  # 60 bytes too many have been sent
    peer.say(window_update(1, 50))
    assert not answered(await peer.hear(), 1)
    peer.say(window_update(1, 15))
    assert len(answered(await peer.hear(), 1)) == 5
    peer.say(initial_window(60))
    assert len(answered(await peer.hear(), 1)) == 20
    peer.say(initial_window(1000))
    heard = await peer.hear()
    assert len(answered(heard, 1)) == 75
    assert heard[-1].flags & END_STREAM


async def test_a_window_may_be_as_large_as_can_be() -> None:
    peer = await Peer().begun()
    stream = peer.open(1)
    peer.say(initial_window(0), window_update(1, 1000))
    reply(stream, bytes(1000))
    peer.say(initial_window(frames.MAX_WINDOW))  # beside which the stream has nothing left
    heard = await peer.hear()
    assert len(answered(heard, 1)) == 1000
    assert not of(frames.GOAWAY, heard)
    peer.open(3)
    peer.say(initial_window(0), window_update(3, frames.MAX_WINDOW))
    assert not resets(await peer.hear())


async def test_many_changes_of_the_window_are_one_look_at_the_streams(monkeypatch: pytest.MonkeyPatch) -> None:
    peer = await Peer().begun()
    peer.say(WIDE, initial_window(0))
    for number in range(1, 100, 2):
        reply(peer.open(number, flags=END_STREAM), b"x" * 10)
    await peer.hear()
    looked: list[int] = []
    send = peer.connection.send
    monkeypatch.setattr(peer.connection, "send", lambda stream: (looked.append(stream.number), send(stream)))
    peer.say(*(initial_window(size % 10) for size in range(1000)), *[window_update(0, 1)] * 1000)
    assert looked == []
    heard = await peer.hear()
    assert looked == list(range(1, 100, 2))
    assert all(len(answered(heard, number)) == 9 for number in looked)


async def test_who_writes_waits_until_it_was_sent() -> None:
    peer = await Peer().begun()
    peer.say(initial_window(5))
    stream = peer.open(1)
    stream.begin(OPEN)
    stream.send(b"12345678")
    waits = asyncio.ensure_future(stream.sent())
    await peer.hear()
    assert not waits.done()
    peer.say(window_update(1, 3))
    await waits
    await stream.sent()  # which has nothing to wait for
    assert answered(await peer.hear(), 1) == b"678"


@pytest.mark.parametrize("how", ["reset", "lost"])
async def test_who_waits_to_write_learns_that_the_client_has_gone(how: str) -> None:
    peer = await Peer().begun()
    peer.say(initial_window(5))
    stream = peer.open(1)
    stream.send(b"12345678")
    waits = asyncio.ensure_future(stream.sent())
    await peer.hear()
    if how == "reset":
        peer.say(frames.rst_stream(1, Code.CANCEL))
    else:
        peer.connection.abort()
        peer.lose()
    with pytest.raises(StreamClosed):
        await waits
    with pytest.raises(StreamClosed):
        stream.send(b"more")
    stream.finish(END)  # which is late, and nothing
    assert (stream.lost, peer.connection.unsent) == (1, 0)
    assert not await peer.hear()


async def test_answers_beyond_what_may_wait_are_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ratus.http2.stream.MOST_UNSENT", 1000)
    peer = await Peer().begun()
    peer.say(initial_window(0))
    streams = [peer.open(number, flags=END_STREAM) for number in (1, 3, 5)]
    for one in streams:
        peer.connection.answer(one, OPEN, bytes(600), END)
    assert resets(await peer.hear()) == [(5, Code.ENHANCE_YOUR_CALM)]
    assert [one.lost for one in streams] == [0, 0, 1]
    peer.say(initial_window(600))
    heard = await peer.hear()
    assert [len(answered(heard, number)) for number in (1, 3, 5)] == [600, 600, 0]
