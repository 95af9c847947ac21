"""What a client costs at most, and that it gets everything once it behaves."""

import asyncio
import itertools

import pytest

from ratus.http2 import frames, incoming, outgoing
from ratus.http2.frames import END_HEADERS, END_STREAM, Code, frame
from tests.http2.peer import END, OPEN, Peer, data, of, resets


async def test_streams_beyond_the_bound_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(incoming, "MAX_STREAMS", 2)
    peer = await Peer().begun()
    first, second, third = (peer.open(number) for number in (1, 3, 5))
    assert third is None
    assert resets(await peer.hear()) == [(5, Code.REFUSED_STREAM)]
    peer.say(data(5, b"x"), frames.rst_stream(5, Code.CANCEL))  # of one that does not know it yet
    first.finish(END)
    assert peer.open(7) is not None
    assert second.lost == 0


async def test_a_client_that_lets_answers_wait_gets_no_new_streams(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(incoming, "MAX_UNSENT", 1000)
    peer = await Peer().begun()
    peer.say(frames.settings({frames.INITIAL_WINDOW_SIZE: 0}))
    peer.connection.answer(peer.open(1), OPEN, bytes(1001), END)
    assert peer.open(3) is None
    assert resets(await peer.hear()) == [(3, Code.REFUSED_STREAM)]
    peer.say(frames.window_update(1, 1))
    assert peer.open(5) is not None
    peer.say(frames.rst_stream(1, Code.CANCEL))
    assert peer.connection.unsent == 0


FLOODS = {
    "pings": frame(frames.PING, 0, 0, b"12345678"),
    "settings": frame(frames.SETTINGS, 0, 0, b""),
}


@pytest.mark.parametrize("name", FLOODS)
async def test_a_client_that_does_not_read_is_not_read_either(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    bound = 200_000
    monkeypatch.setattr(outgoing, "MAX_UNREAD", bound)
    peer = await Peer().begun()
    peer.transport.reads = False
    chunk, said = FLOODS[name] * 10_000, 0
    while peer.transport.reading:
        peer.say(chunk)
        await peer.quiet()
        said += 10_000
        assert peer.transport.unread <= bound + 2 * outgoing.FRAME
    answers = len(await peer.hear())
    assert answers < said  # what came with the last is kept, and not answered
    peer.transport.read_all()
    assert answers + len(await peer.hear()) == said
    assert peer.transport.reading
    assert not peer.transport.closed


async def test_refusals_are_bounded_by_what_is_read_as_well(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outgoing, "MAX_UNREAD", 200_000)
    peer = await Peer().begun()
    peer.transport.reads = False
    peer.open(1, b"/malformed")
    peer.say(
        *(frame(frames.HEADERS, END_HEADERS, number, peer.block(b"/malformed")) for number in range(3, 100_001, 2))
    )
    await peer.quiet()
    assert not peer.transport.reading
    assert peer.transport.unread <= 200_000 + 2 * outgoing.FRAME
    peer.transport.read_all()
    assert len(resets(await peer.hear())) == 50_000


async def test_silence_counts_for_a_client_that_does_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outgoing, "MAX_UNREAD", 100_000)
    peer = await Peer().begun()
    peer.transport.reads = False
    peer.say(FLOODS["pings"] * 20_000)
    await peer.quiet()
    assert not peer.transport.reading
    peer.connection._heard -= 100
    assert peer.connection.silence() >= 100


async def test_nothing_is_read_while_calls_linger_for_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outgoing, "MAX_LINGERING", 2)
    peer = await Peer().begun()
    peer.connection.lingers(1)
    assert peer.transport.reading
    peer.connection.lingers(1)
    peer.connection.lingers(1)
    assert not peer.transport.reading
    peer.say(frame(frames.HEADERS, END_HEADERS, 1, peer.block()))  # what was on its way
    peer.connection._heard -= 100
    assert peer.connection.silence() == 0  # of which the client knows nothing
    peer.connection.lingers(-1)
    assert not peer.transport.reading
    assert not peer.application.streams
    peer.connection.lingers(-1)
    await peer.quiet()
    assert peer.transport.reading
    assert len(peer.application.streams) == 1
    assert peer.connection.silence() < 100


async def test_what_lingers_behind_the_end_of_a_connection_is_nothing_to_it() -> None:
    peer = await Peer().begun()
    peer.connection.abort()
    peer.connection.lingers(outgoing.MAX_LINGERING)
    peer.connection.lingers(-outgoing.MAX_LINGERING)
    assert peer.transport.reading
    peer.lose()


async def test_a_client_that_does_not_read_gets_all_in_order_later() -> None:
    """Data keeps to what the system takes, beyond which it costs what it is long, once."""
    peer = await Peer().begun()
    peer.say(frames.window_update(0, 1 << 30), frames.settings({frames.INITIAL_WINDOW_SIZE: 1 << 30}))
    await peer.hear()
    peer.transport.reads = False
    messages = [bytes([number]) * 1_000_000 for number in range(3)]
    streams = [peer.open(number) for number in (1, 3, 5)]
    for stream, message in zip(streams, messages, strict=True):
        stream.begin(OPEN)
        stream.send(message)
        stream.finish(END)
    heard = await peer.hear()
    assert peer.transport.unread < 3 * outgoing.FRAME
    assert peer.connection.unsent > 3_000_000 - 3 * outgoing.FRAME
    assert not any(stream.closed for stream in streams)
    while any(not stream.closed for stream in streams):
        peer.transport.read_all()
        peer.transport.reads = False
        heard += await peer.hear()
        assert peer.transport.unread < 3 * outgoing.FRAME
    for number, message in zip((1, 3, 5), messages, strict=True):
        own = [frame for frame in heard if frame.stream == number]
        assert b"".join(frame.payload for frame in of(frames.DATA, own)) == message
        assert [frame.kind for frame in own][-2:] == [frames.HEADERS, frames.RST_STREAM]
        assert own[-2].flags & END_STREAM


async def test_control_frames_pass_data_that_waits() -> None:
    peer = await Peer().begun()
    peer.say(frames.settings({frames.INITIAL_WINDOW_SIZE: 0}))
    peer.connection.answer(peer.open(1), OPEN, b"x", END)
    peer.say(FLOODS["pings"])
    assert (await peer.hear())[-1].kind == frames.PING


async def test_others_have_their_turn_while_a_client_floods() -> None:
    peer = await Peer().begun()
    count = 4 * incoming.TURN // len(FLOODS["pings"])
    peer.say(FLOODS["pings"] * count)
    assert not peer.transport.reading
    answered = [len(peer.transport.written)]
    while len(answered) < 100:
        await asyncio.sleep(0)
        answered.append(len(peer.transport.written))
    heard = await peer.hear()
    assert len(heard) == count
    assert len(set(answered)) >= 4
    assert max(after - before for before, after in itertools.pairwise(answered)) <= incoming.TURN + outgoing.FRAME


async def test_what_comes_while_others_have_their_turn_is_read_in_order() -> None:
    peer = await Peer().begun()
    stream = peer.open(1)
    said = b"".join(data(1, b"%06d" % number) for number in range(10_000))
    peer.say(said[:140_001])
    peer.say(said[140_001:140_003])  # which a transport may do that was told too late
    await peer.quiet()
    peer.say(said[140_003:])
    await peer.quiet()
    assert stream.data == [b"%06d" % number for number in range(10_000)]


async def test_a_connection_that_is_lost_while_it_is_behind_reads_no_more() -> None:
    peer = await Peer().begun()
    stream = peer.open(1)
    peer.say(data(1, b"x") * 10_000)
    came = len(stream.data)
    peer.connection.abort()
    peer.lose()
    await peer.hear()
    assert came == len(stream.data) < 10_000


async def test_streams_that_hold_too_much_together_are_given_up_from_the_largest_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(incoming, "CONNECTION_WINDOW", 2000)
    monkeypatch.setattr(incoming, "MOST_HELD", 10_000)
    peer = await Peer().begun()
    streams = {number: peer.open(number) for number in (1, 3, 5, 7)}
    for number, size in ((1, 2500), (3, 3000), (5, 2000), (7, 2400)):
        peer.say(data(number, bytes(size)))
    assert not resets(await peer.hear())
    peer.say(data(1, bytes(100)), data(5, bytes(1000)))  # the next look is at what was held before the last of it
    heard = await peer.hear()
    assert not resets(heard)
    peer.say(data(7, bytes(1000)))
    assert resets(await peer.hear()) == [(3, Code.ENHANCE_YOUR_CALM)]
    assert [stream.lost for stream in streams.values()] == [0, 1, 0, 0]
