"""What a supervisor and its workers tell each other: an order on standard input, a report on standard output.

Each is one line of JSON. Nothing follows the order: a worker that reads the end of its standard input is to drain,
because its supervisor says so or is gone.
"""

from typing import Self

import msgspec

from ratus.config import LogSettings, ServeSettings


class _Message(msgspec.Struct, frozen=True):
    def line(self) -> bytes:
        """The message as it is sent."""
        return msgspec.json.encode(self) + b"\n"

    @classmethod
    def parse(cls, line: bytes) -> Self:
        """The message that was sent."""
        return msgspec.json.decode(line, type=cls)


class Order(_Message, frozen=True):
    """What a worker is to do: serve, as the one with this number, with its metrics in a directory that all share."""

    number: int
    settings: ServeSettings
    log: LogSettings
    metrics: str


class Report(_Message, frozen=True):
    """What has become of an order: the line that says what is served where, or why that can never work."""

    serves: str = ""
    failure: str = ""
