"""How a connection ends: drained, failed, left by its client, or aborted."""

import pytest

from ratus.http2 import frames
from ratus.http2.frames import ACK, END_STREAM, Code, frame
from tests.http2.peer import END, OPEN, Frame, Noted, Peer, of, resets

GOODBYE = frame(frames.PING, ACK, 0, frames.GOODBYE)


def goaways(heard: list[Frame]) -> list[int]:
    """The last streams that were told to be served."""
    return [int.from_bytes(frame.payload[:4], "big") for frame in of(frames.GOAWAY, heard)]


async def test_a_drain_serves_what_was_on_its_way_and_then_ends() -> None:
    peer = await Peer().begun()
    first = peer.open(1)
    peer.connection.drain()
    goaway, ping = await peer.hear()
    assert goaways([goaway]) == [frames.LAST_STREAM]
    assert (ping.kind, ping.flags) == (frames.PING, 0)
    second = peer.open(3)  # was on its way
    peer.say(frame(frames.PING, ACK, 0, ping.payload))
    assert goaways(await peer.hear()) == [3]
    peer.connection.refuse_more()  # which it does
    assert peer.open(5) is None
    assert resets(await peer.hear()) == [(5, Code.REFUSED_STREAM)]
    peer.connection.answer(first, OPEN, b"1", END)
    assert not peer.transport.closed
    peer.connection.answer(second, OPEN, b"2", END)
    assert peer.transport.closed
    assert [frame.payload for frame in of(frames.DATA, await peer.hear())] == [b"1", b"2"]


async def test_a_drain_does_not_wait_for_a_client_that_does_not_answer() -> None:
    peer = await Peer().begun()
    stream = peer.open(1)
    peer.connection.drain()
    peer.connection.refuse_more()
    assert goaways(await peer.hear()) == [frames.LAST_STREAM, 1]
    peer.say(GOODBYE)
    assert not await peer.hear()
    peer.connection.end()
    assert resets(await peer.hear()) == [(1, Code.CANCEL)]
    assert (peer.transport.closed, stream.lost) == (True, 1)


async def test_a_drain_ends_what_has_no_streams_as_soon_as_the_client_knows() -> None:
    peer = await Peer().begun()
    peer.connection.drain()
    assert not peer.transport.closed
    peer.say(GOODBYE)
    assert goaways(await peer.hear()) == [frames.LAST_STREAM, 0]
    assert peer.transport.closed


async def test_a_drain_ends_with_a_stream_that_the_client_gives_up() -> None:
    peer = await Peer().begun()
    peer.open(1)
    peer.connection.drain()
    peer.say(GOODBYE, frames.rst_stream(1, Code.CANCEL))
    assert peer.transport.closed


async def test_a_fault_while_draining_does_not_take_back_what_was_refused() -> None:
    peer = await Peer().begun()
    peer.open(1)
    peer.connection.drain()
    peer.connection.refuse_more()
    peer.open(7)
    peer.say(frame(frames.PING, 0, 1, bytes(8)))
    assert goaways(await peer.hear()) == [frames.LAST_STREAM, 1, 1]


async def test_a_goodbye_that_nobody_asked_for_ends_nothing() -> None:
    peer = await Peer().begun()
    peer.say(GOODBYE)
    assert peer.open(1) is not None
    assert not await peer.hear()


async def test_who_has_not_spoken_yet_is_not_waited_for() -> None:
    peer = Peer(begin=b"")
    peer.connection.drain()
    assert peer.transport.aborted


async def test_streams_hear_of_a_drain(monkeypatch: pytest.MonkeyPatch) -> None:
    peer = await Peer().begun()
    stream = peer.open(1)
    heard: list[Noted] = []
    monkeypatch.setattr(Noted, "drain", lambda self: heard.append(self))
    peer.connection.drain()
    assert heard == [stream]


async def test_a_client_that_ends_its_side_ends_all_its_streams() -> None:
    peer = await Peer().begun()
    stream = peer.open(1)
    peer.connection.answer(peer.open(3, flags=END_STREAM), OPEN, b"x", END)
    peer.connection.eof_received()
    assert [frame.stream for frame in await peer.hear()] == [3, 3, 3]  # what was ready by then
    assert (stream.lost, peer.transport.closed) == (1, True)
    peer.connection.eof_received()
    peer.lose()
    assert (stream.lost, peer.everyone, peer.losses) == (1, set(), 1)


async def test_nothing_is_written_once_a_connection_is_lost() -> None:
    peer = await Peer().begun()
    stream = peer.open(1)
    peer.connection.answer(peer.open(3), OPEN, b"x", END)  # to be written at the end of this turn
    peer.connection.abort()
    peer.lose()
    stream.finish(END)
    stream.allow()
    peer.connection.ping()
    peer.connection.drain()
    peer.connection.refuse_more()
    assert not await peer.hear()  # and the transport says so otherwise


@pytest.mark.parametrize("table", [0, 1, frames.DEFAULT_TABLE - 1])
async def test_a_client_that_wants_a_smaller_table_is_told_that_we_use_none(table: int) -> None:
    peer = await Peer().begun()
    peer.say(frames.settings({frames.HEADER_TABLE_SIZE: table}))
    peer.connection.answer(peer.open(1), OPEN, b"x", END)
    peer.connection.answer(peer.open(3), OPEN, b"x", END)
    heads = [frame.payload for frame in of(frames.HEADERS, await peer.hear())]
    assert heads == [b"\x20" + OPEN, END, OPEN, END]


async def test_long_trailers_go_on_in_other_frames() -> None:
    peer = await Peer().begun()
    block = bytes(index % 251 for index in range(2 * frames.DEFAULT_FRAME + 1))
    peer.open(1, flags=END_STREAM).finish(block)
    first, *others = await peer.hear()
    assert (first.kind, first.flags) == (frames.HEADERS, END_STREAM)
    assert [(frame.kind, frame.flags) for frame in others] == [
        (frames.CONTINUATION, 0),
        (frames.CONTINUATION, frames.END_HEADERS),
    ]
    assert b"".join(frame.payload for frame in (first, *others)) == block
