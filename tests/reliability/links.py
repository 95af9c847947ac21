"""A network that is at fault: proxies that carry bytes between MongoDB and whoever talks to it, well or badly."""

import asyncio
import contextlib
import random
import socket
import struct
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import Enum
from typing import Final

import psutil

from tests.ports import held_port

_READ: Final = 65_536
_RESET: Final = struct.pack("ii", 1, 0)  # SO_LINGER, so that a close is a reset


class Way(Enum):
    """The two directions of a connection."""

    ASKED = "asked"  # to the server behind the link
    ANSWERED = "answered"


@dataclass(frozen=True)
class Pace:
    """How slowly bytes are carried: each piece of at most so many bytes waits for so long (seconds, least and most)."""

    least: float = 0.0
    most: float = 0.0
    piece: int = _READ


class _Carried:
    """A connection that a link carries."""

    def __init__(self, client: asyncio.StreamWriter, server: asyncio.StreamWriter, owner: int | None) -> None:
        self.owner = owner  # the process that has made it, if that is one of those the link tells apart
        self.lost: set[Way] = set()  # where it has lost bytes, so that nothing that comes later can be understood
        self._ends = (client, server)

    def reset(self) -> None:
        for end in self._ends:
            sock: socket.socket | None = end.get_extra_info("socket")
            if sock is not None and sock.fileno() != -1:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            end.transport.abort()


class Link:
    """A proxy in front of a port of this host; `address` is what to call instead of it.

    Connections are told apart by the processes that make them, of which it knows `pids()`. Bytes that have vanished
    are not sent again when the fault is over: the connection stays silent in that direction for ever, as one that a
    firewall has forgotten.
    """

    def __init__(self, server_port: int, dice: random.Random, pids: Callable[[], set[int]] = set) -> None:
        self.port = held_port(self)
        self._dice = dice
        self.address = f"127.0.0.1:{self.port}"
        self._server_port = server_port
        self._pids = pids
        self._listening: asyncio.Server | None = None
        self._carried: set[_Carried] = set()
        self._jobs: set[asyncio.Task[None]] = set()
        self._pace = Pace()
        self._vanishing: frozenset[Way] = frozenset()
        self._cut_off: Callable[[int | None], bool] = lambda _: False

    async def open(self) -> None:
        """Take connections."""
        self._listening = await asyncio.start_server(self._serve, "127.0.0.1", self.port)

    async def refuse(self) -> None:
        """Reset all connections, and have new ones refused until it is opened again."""
        if self._listening is not None:
            self._listening.close()
            self._listening = None
        self._reset(lambda _: True)

    async def close(self) -> None:
        """End all."""
        await self.refuse()
        for job in self._jobs:
            job.cancel()
        await asyncio.gather(*self._jobs, return_exceptions=True)

    def slow(self, pace: Pace) -> None:
        """Carry bytes at this pace."""
        self._pace = pace

    def vanish(self, *ways: Way) -> None:
        """Let bytes vanish, also those of new connections; with no way, bytes of new connections arrive again."""
        self._vanishing = frozenset(ways)

    def forget(self, share: float) -> None:
        """Let all bytes of a share of the connections that there are vanish for ever; new ones are carried."""
        for carried in self._carried:
            if self._dice.random() < share:
                carried.lost |= set(Way)

    def cut_off(self, whom: Callable[[int | None], bool]) -> None:
        """Reset the connections of these processes (None is one that is not known), and refuse theirs from now on."""
        self._cut_off = whom
        self._reset(whom)

    def heal(self) -> None:
        """Carry everything at once, but for connections that have lost bytes."""
        self._pace, self._vanishing, self._cut_off = Pace(), frozenset(), lambda _: False

    def _reset(self, whom: Callable[[int | None], bool]) -> None:
        for carried in self._carried:
            if whom(carried.owner):
                carried.reset()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        job = asyncio.current_task()
        assert job is not None
        self._jobs.add(job)
        try:
            with contextlib.suppress(asyncio.CancelledError):  # by `close`; asyncio would log it
                await self._carry_both(reader, writer)
        finally:
            self._jobs.discard(job)
            writer.transport.abort()

    async def _carry_both(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        users = await asyncio.to_thread(users_of, writer.get_extra_info("peername")[1], self._pids())
        owner = users.pop() if users else None
        try:
            from_server, to_server = await asyncio.open_connection("127.0.0.1", self._server_port)
        except OSError:
            return
        carried = _Carried(writer, to_server, owner)
        self._carried.add(carried)
        try:
            if self._cut_off(owner):
                return
            ways = (
                asyncio.create_task(self._carry(reader, to_server, carried, Way.ASKED)),
                asyncio.create_task(self._carry(from_server, writer, carried, Way.ANSWERED)),
            )
            try:
                await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for way in ways:
                    way.cancel()
                await asyncio.gather(*ways, return_exceptions=True)
        finally:
            carried.reset()
            self._carried.discard(carried)

    async def _carry(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, carried: _Carried, way: Way
    ) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(_READ):
                if way in self._vanishing:
                    carried.lost.add(way)
                if way in carried.lost:
                    continue
                while data:
                    pace = self._pace
                    piece, data = data[: pace.piece], data[pace.piece :]
                    if pace.most:
                        await asyncio.sleep(self._dice.uniform(pace.least, pace.most))  # what the network takes
                    writer.write(piece)
                    await writer.drain()


def users_of(port: int, pids: Iterable[int]) -> set[int]:
    """Which of these processes have a socket that is bound to this port, whatever its other end is."""
    return {pid for pid in pids if port in _ports(pid)}


def _ports(pid: int) -> set[int]:
    try:
        return {one.laddr.port for one in psutil.Process(pid).net_connections("tcp")}
    except (psutil.NoSuchProcess, psutil.AccessDenied):  # the latter of a process that has just ended
        return set()
