"""Header lists as blocks of HPACK (RFC 7541), by the library of that name."""

from collections.abc import Callable, Iterable
from typing import Final, Generic, TypeAlias, TypeVar

import hpack
from hpack.table import HeaderTable

from ratus.http2.errors import ConnectionFault
from ratus.http2.frames import Code

Headers: TypeAlias = list[tuple[bytes, bytes]]
Read = TypeVar("Read")

MAX_LIST: Final = 64 * 1024  # bytes of a list, with 32 for each of its fields
RESET_TABLE: Final = b"\x20"  # what begins a block once the other side wants a smaller table: we use none
_MAX_RESIZES: Final = 2  # of the table in a block: RFC 7541, section 4.2, knows no use for more
_MAX_KEPT: Final = 256  # blocks
_MAX_KEPT_SIZE: Final = 512  # bytes of a block


def encode(headers: Iterable[tuple[bytes, bytes]]) -> bytes:
    """A block that leaves no trace in the table of the other side, so that it can be sent on any connection."""
    return hpack.Encoder().encode([(name, value, True) for name, value in headers], huffman=False)


class _Table(HeaderTable):
    """A table that tells when it changes."""

    def __init__(self, changed: Callable[[], None], resized: Callable[[], None]) -> None:
        super().__init__()
        self._changed = changed
        self._resized = resized

    def add(self, name: bytes, value: bytes) -> None:
        self._changed()
        super().add(name, value)

    @property
    def maxsize(self) -> int:
        return self._maxsize

    @maxsize.setter
    def maxsize(self, size: int) -> None:
        self._resized()
        HeaderTable.maxsize.fset(self, size)  # type: ignore[attr-defined]  # of a property


class Decoder(Generic[Read]):
    """Decodes the blocks of one connection, in their order, and keeps what `read` makes of them.

    A client that calls again and again sends the same few bytes, which mean the same as long as the table is what it
    was. To decode them takes two hundred times as long as to find them.
    """

    def __init__(self, read: Callable[[Headers], Read]) -> None:
        self._read = read
        self._kept: dict[bytes, Read] = {}
        self._same = True  # the table, since the last block
        self._resizes = 0  # in this block
        self._decoder = hpack.Decoder(MAX_LIST)
        self._decoder.header_table = _Table(self._change, self._resize)

    def decode(self, block: bytes) -> Read:
        """What a block says; ConnectionFault if it cannot be decoded, and whatever `read` raises."""
        kept = self._kept.get(block)
        if kept is not None:
            return kept
        self._same = True
        read = self._read(self.fields(block))
        if self._same and len(block) <= _MAX_KEPT_SIZE and len(self._kept) < _MAX_KEPT:
            self._kept[block] = read
        return read

    def fields(self, block: bytes) -> Headers:
        """The fields in a block; ConnectionFault if it cannot be decoded."""
        self._resizes = 0
        try:
            return [(name, value) for name, value in self._decoder.decode(block, raw=True)]
        except hpack.OversizedHeaderListError:
            raise ConnectionFault(Code.ENHANCE_YOUR_CALM, f"a header list exceeds {MAX_LIST} bytes") from None
        except hpack.HPACKError:
            raise ConnectionFault(Code.COMPRESSION_ERROR, "malformed header block") from None

    def _change(self) -> None:
        self._same = False
        self._kept.clear()

    def _resize(self) -> None:
        self._change()
        self._resizes += 1
        if self._resizes > _MAX_RESIZES:
            raise hpack.HPACKDecodingError("the table is resized again and again")
