"""Header blocks: what is kept of them, and what is too much."""

import hpack
import pytest

from ratus.http2.errors import ConnectionFault
from ratus.http2.frames import Code
from ratus.http2.headers import MAX_LIST, RESET_TABLE, Decoder, Headers, encode

LIST = [(b":method", b"POST"), (b":path", b"/x"), (b"a", b"b")]


class Reading:
    def __init__(self) -> None:
        self.read: list[Headers] = []
        self.decoder = Decoder(self._read)

    def _read(self, headers: Headers) -> Headers:
        self.read.append(headers)
        return headers


async def test_what_repeats_is_read_once_as_long_as_the_table_is_the_same() -> None:
    reading, encoder = Reading(), hpack.Encoder()
    first, *same = (encoder.encode(LIST) for _ in range(4))
    assert reading.decoder.decode(first) == LIST  # which changes the table
    assert all(reading.decoder.decode(block) == LIST for block in same)
    assert len(reading.read) == 2
    reading.decoder.decode(encoder.encode([(b"c", b"d")]))  # which changes it again
    assert reading.decoder.decode(encoder.encode(LIST)) == LIST
    assert len(reading.read) == 4


async def test_the_same_bytes_mean_something_else_once_the_table_has_changed() -> None:
    reading = Reading()
    reading.decoder.decode(b"\x40\1a\1b")
    assert reading.decoder.decode(b"\xbe") == [(b"a", b"b")]
    assert reading.decoder.decode(b"\xbe") == [(b"a", b"b")]
    reading.decoder.fields(b"\x40\1c\1d")  # of trailers
    assert reading.decoder.decode(b"\xbe") == [(b"c", b"d")]
    reading.decoder.decode(b"\x20\x3f\xe1\x1f")  # the table is emptied, and as large as before
    with pytest.raises(ConnectionFault) as caught:
        reading.decoder.decode(b"\xbe")
    assert caught.value.code == Code.COMPRESSION_ERROR


async def test_what_is_kept_has_a_bound() -> None:
    reading = Reading()
    for number in range(1000):
        reading.decoder.decode(encode([(b"a", b"%d" % number)]))
    long = encode([(b"a", b"x" * 1000)])
    reading.decoder.decode(long)
    assert sum(map(len, reading.decoder._kept)) < 128 * 1024
    assert long not in reading.decoder._kept


BOMBS = {
    "a field that is long": (Code.ENHANCE_YOUR_CALM, encode([(b"a", b"x" * MAX_LIST)])),
    "fields that take little": (Code.ENHANCE_YOUR_CALM, b"\x40\1a\x7f\x81\x1e" + b"y" * 3968 + b"\xbe" * 16),
    "many fields": (Code.ENHANCE_YOUR_CALM, b"\x82" * (MAX_LIST // 40)),
    "a table that changes again and again": (Code.COMPRESSION_ERROR, b"\x20" * 3),
    "a table that is too large": (Code.COMPRESSION_ERROR, b"\x3f\xe2\x1f"),
    "a table that changes behind fields": (Code.COMPRESSION_ERROR, b"\x82\x20"),
    "a number without end": (Code.COMPRESSION_ERROR, b"\x3f" + b"\xff" * 1000),
    "an index that is none": (Code.COMPRESSION_ERROR, b"\x80"),
    "an index of nothing": (Code.COMPRESSION_ERROR, b"\xff\0"),
    "a string that is cut off": (Code.COMPRESSION_ERROR, b"\0\1a\2b"),
    "a field that is cut off": (Code.COMPRESSION_ERROR, b"\0\1"),
    "a code of Huffman that is none": (Code.COMPRESSION_ERROR, b"\0\x84\xff\xff\xff\xff\0"),
}


@pytest.mark.parametrize("name", BOMBS)
async def test_bombs(name: str) -> None:
    code, block = BOMBS[name]
    reading = Reading()
    with pytest.raises(ConnectionFault) as caught:
        reading.decoder.decode(block)
    assert caught.value.code == code
    assert not reading.read


async def test_a_table_may_change_as_often_as_it_has_reason_to() -> None:
    reading = Reading()
    assert reading.decoder.decode(b"\x20\x3f\xe1\x1f\x83") == [(b":method", b"POST")]
    assert reading.decoder.decode(b"\x20\x3f\xe1\x1f\x83") == [(b":method", b"POST")]


async def test_what_we_encode_leaves_no_trace() -> None:
    decoder = hpack.Decoder()
    decoder.header_table_size = 0
    for _ in range(2):
        block = RESET_TABLE + encode([(b":status", b"200"), (b"grpc-status", b"0")])
        assert list(decoder.decode(block, raw=True)) == [(b":status", b"200"), (b"grpc-status", b"0")]
    assert not decoder.header_table.dynamic_entries
