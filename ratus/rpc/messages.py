"""Messages as they stand in the data of a stream: their length in front, and perhaps compressed."""

import zlib
from typing import Final, NamedTuple, TypeAlias

from ratus.config import MAX_REQUEST_BYTES
from ratus.errors import RatusError, TooLarge

ENCODINGS: Final = {b"identity": None, b"gzip": 16 + zlib.MAX_WBITS, b"deflate": zlib.MAX_WBITS}  # as zlib knows them
PREFIX_SIZE: Final = 5  # bytes in front of a message: whether it is compressed, and its length
_HELD_SIZE: Final = 64  # bytes that a message takes beside its own: a client may send many that are empty


class Packed(NamedTuple):
    """A message that is compressed; it stays so until it is wanted, as it may become a thousand times larger."""

    data: bytes
    window: int  # as zlib knows it


Message: TypeAlias = bytes | Packed | RatusError  # the last for one that cannot be read


def framed(message: bytes) -> bytes:
    """A message with what stands in front of it."""
    return b"\0" + len(message).to_bytes(4, "big") + message


def held_size(message: Message) -> int:
    """The bytes that a message takes while it waits."""
    if isinstance(message, RatusError):
        return _HELD_SIZE
    return _HELD_SIZE + len(message if isinstance(message, bytes) else message.data)


def too_large(size: int) -> TooLarge:
    """What is wrong with a message of so many bytes."""
    return TooLarge(f"a request of {size} bytes exceeds the maximum of {MAX_REQUEST_BYTES}")


def unpacked(packed: Packed) -> bytes | None:
    """What is packed in a message, or None if it is not packed in this way; TooLarge."""
    try:
        unpacker = zlib.decompressobj(packed.window)
        data = unpacker.decompress(packed.data, MAX_REQUEST_BYTES + 1)
    except zlib.error:
        return None
    if len(data) > MAX_REQUEST_BYTES:
        raise TooLarge(f"a request that unpacks to more than {MAX_REQUEST_BYTES} bytes exceeds the maximum")
    return data if unpacker.eof else None
