"""A client of HTTP/2 that others have written (`h2`), on a real socket."""

import asyncio
import ssl
from collections import defaultdict
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import h2.config
import h2.connection
import h2.errors
import h2.events
import h2.settings

SECONDS = 60  # for what has to come; far beyond the stalls of a busy machine


class Client:
    """What it has heard is kept by stream; it opens windows by itself unless it is `stingy`."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, stingy: bool) -> None:
        self.reader, self.writer, self.stingy = reader, writer, stingy
        self.h2 = h2.connection.H2Connection(h2.config.H2Configuration(header_encoding=None))
        self.data: dict[int, bytes] = defaultdict(bytes)
        self.heads: dict[int, list[dict[bytes, bytes]]] = defaultdict(list)  # and trailers
        self.resets: dict[int, int] = {}
        self.ended: set[int] = set()
        self.goaways: list[h2.events.ConnectionTerminated] = []
        self.pings: list[bytes] = []
        self.acknowledged = 0  # settings
        self.lost = False
        self._news = asyncio.Condition()

    def flush(self) -> None:
        """Send what is ready."""
        self.writer.write(self.h2.data_to_send())

    def open(self, headers: list[tuple[bytes, bytes]], *, end: bool = False) -> int:
        """Open a stream."""
        number = self.h2.get_next_available_stream_id()
        self.h2.send_headers(number, headers, end_stream=end)
        self.flush()
        return number

    def send(self, number: int, data: bytes, *, end: bool = False) -> None:
        """Send data, for which there is room, in as many frames as it takes."""
        size = self.h2.max_outbound_frame_size
        parts = [data[at : at + size] for at in range(0, len(data), size)] or [b""]
        for part in parts:
            self.h2.send_data(number, part, end_stream=end and part is parts[-1])
        self.flush()

    async def until(self, state: Callable[[], Any]) -> None:
        """Wait for a state, which may change when something comes in."""
        async with asyncio.timeout(SECONDS), self._news:
            await self._news.wait_for(state)

    async def end_of(self, *numbers: int) -> None:
        """Wait for the end of streams."""
        await self.until(lambda: all(number in self.ended or number in self.resets for number in numbers))

    async def listen(self) -> None:
        """Take what comes in, until the end."""
        try:
            while True:
                # One by one, as the library knows nothing of what follows a GOAWAY, which is no end yet.
                head = await self.reader.readexactly(9)
                payload = await self.reader.readexactly(int.from_bytes(head[:3], "big"))
                for event in self.h2.receive_data(head + payload):
                    self._take(event)
                self.flush()
                async with self._news:
                    self._news.notify_all()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        self.lost = True
        async with self._news:
            self._news.notify_all()

    def _take(self, event: h2.events.Event) -> None:
        match event:
            case h2.events.ResponseReceived() | h2.events.TrailersReceived():
                self.heads[event.stream_id].append(dict(event.headers))
            case h2.events.DataReceived():
                self.data[event.stream_id] += event.data
                if not self.stingy:
                    self.h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
            case h2.events.StreamEnded():
                self.ended.add(event.stream_id)
            case h2.events.StreamReset():
                self.resets[event.stream_id] = int(event.error_code)
            case h2.events.ConnectionTerminated():
                self.goaways.append(event)
                self.h2.state_machine.state = h2.connection.ConnectionState.CLIENT_OPEN
            case h2.events.PingReceived():
                self.pings.append(event.ping_data)
            case h2.events.SettingsAcknowledged():
                self.acknowledged += 1


@asynccontextmanager
async def client(
    port: int, *, context: ssl.SSLContext | None = None, stingy: bool = False, settings: dict[Any, int] | None = None
) -> AsyncIterator[Client]:
    """A client that has greeted the server and was greeted."""
    reader, writer = await asyncio.open_connection(
        "127.0.0.1", port, ssl=context, server_hostname="localhost" if context else None
    )
    client = Client(reader, writer, stingy=stingy)
    client.h2.initiate_connection()
    if settings:
        client.h2.update_settings(settings)
    client.flush()
    listening = asyncio.create_task(client.listen())
    try:
        await client.until(lambda: client.acknowledged > bool(settings))
        yield client
    finally:
        writer.transport.abort()
        await asyncio.wait([listening])
        listening.result()
