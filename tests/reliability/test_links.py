"""Links do to connections what they are told to."""

import asyncio
import os
import random
from collections.abc import AsyncIterator

import pytest

from tests.reliability.links import Link, Pace, Way

SECONDS = 30  # for what must happen

Ends = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@pytest.fixture
async def heard() -> AsyncIterator[list[bytes]]:
    """What the server behind the link has heard."""
    yield []


@pytest.fixture
async def link(heard: list[bytes]) -> AsyncIterator[Link]:
    """A link to a server that sends back what it hears; it knows connections of this process."""

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(100):
                heard.append(data)
                writer.write(data)
        except ConnectionError:  # the link resets what it ends
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    made = Link(server.sockets[0].getsockname()[1], random.Random(1), lambda: {os.getpid()})
    await made.open()
    yield made
    await made.close()
    server.close()


async def connect(link: Link) -> Ends:
    return await asyncio.open_connection("127.0.0.1", link.port)


async def echoed(ends: Ends, data: bytes) -> bytes:
    reader, writer = ends
    writer.write(data)
    async with asyncio.timeout(SECONDS):
        return await reader.readexactly(len(data))


async def until_heard(heard: list[bytes], data: bytes) -> None:
    async with asyncio.timeout(SECONDS):
        while data not in b"".join(heard):  # noqa: ASYNC110 (nobody would tell)
            await asyncio.sleep(0.01)


async def is_reset(ends: Ends) -> bool:
    async with asyncio.timeout(SECONDS):
        try:
            return await ends[0].read() == b""
        except ConnectionResetError:
            return True


async def test_bytes_are_carried_at_any_pace(link: Link) -> None:
    ends = await connect(link)
    assert await echoed(ends, b"fast") == b"fast"
    link.slow(Pace(0.001, 0.002, 3))
    assert await echoed(ends, b"in small pieces") == b"in small pieces"
    ends[1].close()


async def test_a_link_that_refuses_resets_and_can_be_opened_again(link: Link) -> None:
    ends = await connect(link)
    assert await echoed(ends, b"a") == b"a"
    await link.refuse()
    assert await is_reset(ends)
    with pytest.raises(ConnectionRefusedError):
        await connect(link)
    await link.open()
    again = await connect(link)
    assert await echoed(again, b"b") == b"b"
    for one in (ends, again):
        one[1].close()


async def test_what_has_vanished_stays_so_and_new_connections_work(link: Link, heard: list[bytes]) -> None:
    ends, other = await connect(link), await connect(link)
    for one in (ends, other):
        assert await echoed(one, b"before") == b"before"
    link.vanish(Way.ANSWERED)
    ends[1].write(b"asked")
    await until_heard(heard, b"asked")
    new = await connect(link)
    link.heal()
    assert await echoed(new, b"new") == b"new"
    assert await echoed(other, b"lost nothing") == b"lost nothing"
    ends[1].write(b"later")
    await until_heard(heard, b"later")
    answer = asyncio.create_task(ends[0].read(1))
    assert await echoed(other, b"after it") == b"after it"
    assert not answer.done()
    answer.cancel()
    for one in (ends, other, new):
        one[1].close()


async def test_processes_are_told_apart(link: Link) -> None:
    ends = await connect(link)
    assert await echoed(ends, b"a") == b"a"
    link.cut_off(lambda owner: owner is None)
    assert await echoed(ends, b"b") == b"b"
    link.cut_off(lambda owner: owner == os.getpid())
    assert await is_reset(ends)
    refused = await connect(link)
    assert await is_reset(refused)
    link.heal()
    again = await connect(link)
    assert await echoed(again, b"c") == b"c"
    for one in (ends, refused, again):
        one[1].close()
