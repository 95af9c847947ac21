import pytest

from gateway import queries
from ratus.errors import BadRequest
from ratus.model import PageRequest


@pytest.mark.parametrize(
    ("query", "values"),
    [
        (b"", {}),
        (b"timeout=30s&consumer=c", {"timeout": "30s", "consumer": "c"}),
        (b"consumer=a+b%2Bc%26", {"consumer": "a b+c&"}),
        (b"consumer=&timeout", {}),
        (b"consumer=first&consumer=second", {"consumer": "first"}),
        (b"consumer=" + b"x" * 1000, {"consumer": "x" * 1000}),
        (b"timeout=5\xc2\xb5s", {"timeout": "5µs"}),
        (b"&&=&x", {}),
    ],
)
def test_values(query: bytes, values: dict[str, str]) -> None:
    assert queries.values(query) == values


@pytest.mark.parametrize("query", [b"consumer=%ff", b"consumer=\xff", b"%ED%A0%80=1"])
def test_values_must_be_utf8(query: bytes) -> None:
    with pytest.raises(BadRequest, match="bad request: query is not UTF-8"):
        queries.values(query)


@pytest.mark.parametrize(
    ("query", "limit", "offset"),
    [
        (b"", 0, 0),
        (b"limit=&offset=", 0, 0),
        (b"limit=%2B5&offset=007", 5, 7),
        (b"limit=-1&offset=-2", -1, -2),
        (b"limit=3000000000&offset=-3000000000", 2**31 - 1, -(2**31)),
    ],
)
def test_page(query: bytes, limit: int, offset: int) -> None:
    assert queries.page(query) == PageRequest(limit=limit, offset=offset)


@pytest.mark.parametrize(
    "text",
    [
        "foo",
        "1.5",
        "1e3",
        "0x10",
        "1_0",
        "%20",
        "5%20",
        "--5",
        "+7",
        "٣",
        "9223372036854775808",
        "-9223372036854775809",
        "9" * 5000,
    ],
)
@pytest.mark.parametrize("name", ["limit", "offset"])
def test_page_must_be_integers(name: str, text: str) -> None:
    with pytest.raises(BadRequest, match=r"^bad request: invalid pagination parameters$"):
        queries.page(f"{name}={text}".encode())
