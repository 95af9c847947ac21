import pytest

from ratus import payload
from ratus.errors import BadRequest, TooLarge

MIB = 1024 * 1024


def checked(text: bytes) -> bytes | None:
    result = payload.check(text, MIB)
    return None if result is None else bytes(result)


@pytest.mark.parametrize(
    ("text", "compact"),
    [
        (b"", None),
        (b"null", None),
        (b" null ", None),
        (b"false", b"false"),
        (b"0", b"0"),
        (b'""', b'""'),
        (b"[]", b"[]"),
        (b"{}", b"{}"),
        (b'{ "a" : [ 1, 2.5, null ] }', b'{"a":[1,2.5,null]}'),
        (b'{"a": 1, "a": 2}', b'{"a":2}'),
        (b"1.0", b"1.0"),
        (b"9223372036854775807", b"9223372036854775807"),
        (b"-9223372036854775808", b"-9223372036854775808"),
        (b"9223372036854775808", b"9.223372036854776e18"),
        (b'{"n": [18446744073709551616]}', b'{"n":[1.8446744073709552e19]}'),
        (b'{"a.b": 1, "$c": {"$ref": "x", "$id": 1}}', b'{"a.b":1,"$c":{"$ref":"x","$id":1}}'),
        (b'"\\u0000"', b'"\\u0000"'),
        (b'"\\ud83d\\udc00"', '"🐀"'.encode()),
        (b"[" * 100 + b"]" * 100, b"[" * 100 + b"]" * 100),
        (b"[" + b"[]," * 200 + b"[]]", b"[" + b"[]," * 200 + b"[]]"),
    ],
)
def test_payloads_are_kept_compact(text: bytes, compact: bytes | None) -> None:
    assert checked(text) == compact


@pytest.mark.parametrize(
    "text",
    [
        b"{",
        b"nul",
        b"NaN",
        b"[1,]",
        b"1 2",
        b"'a'",
        b'"\t"',
        b'"\xff"',
        b"\xef\xbb\xbf1",
        b"1e400",
        b"-1e400",
        b"1" + b"0" * 400,
        b"1" + b"0" * 10_000,
        b'"\\ud800"',
        b'"\\udc00 x"',
        b'{"a\\u0000": 1}',
        b'[{"b": {"\\u0000": 1}}]',
        b"[" * 101 + b"]" * 101,
        b'{"a":' * 101 + b"1" + b"}" * 101,
        b"[" * 10_000 + b"]" * 10_000,
        b"[" * 10_000,
    ],
)
def test_what_is_no_payload(text: bytes) -> None:
    with pytest.raises(BadRequest) as caught:
        checked(text)
    assert caught.value.field == "payload"


def test_the_bound_is_on_compact_json() -> None:
    assert payload.check(b'"' + b"a" * 98 + b'"', 100) is not None
    assert payload.check(b"[1" + b" " * 200 + b"]", 100) is not None
    with pytest.raises(TooLarge):
        payload.check(b'"' + b"a" * 99 + b'"', 100)
