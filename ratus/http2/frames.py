"""Frames of HTTP/2 as bytes (RFC 9113, sections 4 and 6)."""

import struct
from enum import IntEnum
from typing import Final

PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

DATA: Final = 0x0
HEADERS: Final = 0x1
PRIORITY: Final = 0x2
RST_STREAM: Final = 0x3
SETTINGS: Final = 0x4
PUSH_PROMISE: Final = 0x5
PING: Final = 0x6
GOAWAY: Final = 0x7
WINDOW_UPDATE: Final = 0x8
CONTINUATION: Final = 0x9

ACK: Final = 0x1  # of SETTINGS and PING
END_STREAM: Final = 0x1
END_HEADERS: Final = 0x4
PADDED: Final = 0x8
WITH_PRIORITY: Final = 0x20

HEADER_TABLE_SIZE: Final = 0x1
ENABLE_PUSH: Final = 0x2
MAX_CONCURRENT_STREAMS: Final = 0x3
INITIAL_WINDOW_SIZE: Final = 0x4
MAX_FRAME_SIZE: Final = 0x5
MAX_HEADER_LIST_SIZE: Final = 0x6

DEFAULT_WINDOW: Final = 65_535  # bytes, of a stream and of a connection
DEFAULT_FRAME: Final = 16_384  # bytes of a payload
DEFAULT_TABLE: Final = 4_096  # bytes, of HPACK
MAX_WINDOW: Final = 2**31 - 1
MAX_FRAME: Final = 2**24 - 1
LAST_STREAM: Final = 2**31 - 1

GOODBYE: Final = b"goodbye!"  # of the ping that tells when a client knows that we drain

HEAD: Final = struct.Struct(">HBBBL")  # length (two parts), type, flags, stream
HEAD_SIZE: Final = 9
_SETTING: Final = struct.Struct(">HL")
_LONG: Final = struct.Struct(">L")
_GOAWAY: Final = struct.Struct(">LL")


class Code(IntEnum):
    """Why a stream or a connection ends (RFC 9113, section 7)."""

    NO_ERROR = 0x0
    PROTOCOL_ERROR = 0x1
    INTERNAL_ERROR = 0x2
    FLOW_CONTROL_ERROR = 0x3
    SETTINGS_TIMEOUT = 0x4
    STREAM_CLOSED = 0x5
    FRAME_SIZE_ERROR = 0x6
    REFUSED_STREAM = 0x7
    CANCEL = 0x8
    COMPRESSION_ERROR = 0x9
    CONNECT_ERROR = 0xA
    ENHANCE_YOUR_CALM = 0xB


def frame(kind: int, flags: int, stream: int, payload: bytes | memoryview = b"") -> bytes:
    """One frame."""
    size = len(payload)
    return HEAD.pack(size >> 8, size & 0xFF, kind, flags, stream) + payload


def header_frames(stream: int, block: bytes, flags: int = 0) -> bytes:
    """A header block as one HEADERS frame, and CONTINUATION frames where it takes more; `flags` END_STREAM or none."""
    if len(block) <= DEFAULT_FRAME:
        return frame(HEADERS, END_HEADERS | flags, stream, block)
    first, *others = (block[at : at + DEFAULT_FRAME] for at in range(0, len(block), DEFAULT_FRAME))
    *between, last = others
    return b"".join(
        [
            frame(HEADERS, flags, stream, first),
            *(frame(CONTINUATION, 0, stream, part) for part in between),
            frame(CONTINUATION, END_HEADERS, stream, last),
        ]
    )


def settings(values: dict[int, int]) -> bytes:
    """A SETTINGS frame."""
    return frame(SETTINGS, 0, 0, b"".join(_SETTING.pack(*value) for value in values.items()))


def read_settings(payload: bytes) -> list[tuple[int, int]]:
    """The settings of a frame whose length is a multiple of six, in their order, as they may come twice."""
    return list(_SETTING.iter_unpack(payload))


def window_update(stream: int, size: int) -> bytes:
    """Allow so many bytes more; stream 0 is the connection."""
    return frame(WINDOW_UPDATE, 0, stream, _LONG.pack(size))


def rst_stream(stream: int, code: Code) -> bytes:
    """End a stream."""
    return frame(RST_STREAM, 0, stream, _LONG.pack(code))


def goaway(last: int, code: Code, why: str = "") -> bytes:
    """Say that streams beyond `last` are not served."""
    return frame(GOAWAY, 0, 0, _GOAWAY.pack(last, code) + why.encode())


def read_number(payload: bytes) -> int:
    """The number that a payload of four bytes is, without the bit that is reserved."""
    return int.from_bytes(payload, "big") & 0x7FFFFFFF
