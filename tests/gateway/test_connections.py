"""What a connection may do, byte by byte: heads, garbage behind a request, and requests that never end."""

import json
import socket
from collections.abc import Iterator

import pytest

from gateway.protocol import MAX_HEAD_BYTES, Protocol
from tests.gateway.serving import Rest, serving

GET = b"GET /v1/topics HTTP/1.1\r\nHost: x\r\n\r\n"


class Impatient(Protocol):
    """Looks often."""

    idle = 1
    patience = 0.5


@pytest.fixture(scope="module")
def rest() -> Iterator[Rest]:
    with serving(protocol=Impatient) as rest:
        yield rest


def insert(id: str) -> bytes:
    """A request that inserts a task."""
    return b"POST /v1/topics/t/tasks/%b HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}" % id.encode()


def to_the_end(connection: socket.socket) -> bytes:
    """What comes until the server closes the connection."""
    received = b""
    while piece := connection.recv(65536):
        received += piece
    return received


def exchange(rest: Rest, data: bytes) -> list[int]:
    """The statuses of the answers until the server closes the connection."""
    with rest.connect() as connection:
        connection.sendall(data)
        received = to_the_end(connection)
    return [int(answer[:3]) for answer in received.split(b"HTTP/1.1 ")[1:]]


def test_a_refusal_has_the_form_of_all_errors(rest: Rest) -> None:
    with rest.connect() as connection:
        connection.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
        head, _, body = to_the_end(connection).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 400 ")
    assert b"content-type: application/json" in head
    assert json.loads(body) == {"error": {"code": 400, "message": "bad request: malformed HTTP request"}}


def test_garbage_takes_no_answer_from_the_request_before_it(rest: Rest) -> None:
    assert exchange(rest, insert("before") + b"\0garbage") == [201]
    assert exchange(rest, insert("first") + insert("second") + b"\0garbage") == [201, 201]
    assert exchange(rest, insert("third") + b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nx") == [201]
    assert rest("GET", "/v1/topics/t").json["count"] == 4


def test_a_body_that_breaks_off_is_refused(rest: Rest) -> None:
    broken = insert("broken").replace(b"Content-Length: 2", b"Transfer-Encoding: chunked")
    assert exchange(rest, broken + b"garbage") == [400]
    assert rest("GET", "/v1/topics//tasks/broken").status == 404


def test_what_follows_an_upgrade_is_not_waited_for(rest: Rest) -> None:
    upgrade = GET.replace(b"Host: x", b"Connection: upgrade\r\nUpgrade: h2c")
    assert exchange(rest, upgrade + GET) == [200]


@pytest.mark.parametrize(
    "begin",
    [
        b"GET / HTTP/1.1\r\nX: ",
        b"GET /",
        b"POST /v1/topics HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0;",
        b"POST /v1/topics HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX: ",
    ],
)
def test_a_head_has_an_end(rest: Rest, begin: bytes) -> None:
    with rest.connect() as connection:
        connection.sendall(begin)
        with pytest.raises(OSError):  # buffers of the system take some of it
            for _ in range(64 * MAX_HEAD_BYTES // 4096):
                connection.sendall(b"x" * 4096)


@pytest.mark.parametrize("begin", [b"", b"GET / HTTP/1.1\r\nX", insert("slow")[:-1]])
def test_a_request_that_does_not_get_on_is_ended(rest: Rest, begin: bytes) -> None:
    with rest.connect() as connection:
        connection.sendall(begin)
        assert to_the_end(connection) == b""
    assert rest("GET", "/v1/topics//tasks/slow").status == 404


def test_a_connection_that_is_not_used_is_ended(rest: Rest) -> None:
    with rest.connect() as connection:
        connection.sendall(GET)
        assert to_the_end(connection).startswith(b"HTTP/1.1 200 ")


def test_who_has_gone_is_not_waited_for_behind_a_second_request(rest: Rest) -> None:
    with rest.connect() as connection:
        connection.sendall(b"GET /v1/topics/gone/stream HTTP/1.1\r\nHost: x\r\n\r\n" + GET + b"\0")
        assert connection.recv(65536).startswith(b"HTTP/1.1 200 ")
        rest.until("gone", waiting_consumers=1)
    rest.until("gone", waiting_consumers=0)


def test_an_answer_may_take_its_time(rest: Rest) -> None:
    with rest.connect() as connection:
        connection.sendall(b"POST /v1/topics/none/promises?limit=1&wait=1s HTTP/1.1\r\nHost: x\r\n\r\n")
        assert connection.recv(65536).startswith(b"HTTP/1.1 200 ")


def test_a_body_that_is_announced_too_large_is_not_waited_for(rest: Rest) -> None:
    with rest.connect() as connection:
        connection.sendall(b"POST /v1/topics/t/tasks HTTP/1.1\r\nHost: x\r\nContent-Length: 1048577\r\n\r\n")
        assert connection.recv(65536).startswith(b"HTTP/1.1 413 ")


@pytest.mark.parametrize("length", [b"Content-Length: 20000000", b"Transfer-Encoding: chunked"])
def test_a_client_that_sends_too_much_can_read_why_it_is_refused(rest: Rest, length: bytes) -> None:
    head = b"POST /v1/topics/t/tasks HTTP/1.1\r\nHost: x\r\nConnection: close\r\n%b\r\n\r\n" % length
    with rest.connect() as connection:
        connection.sendall(head + b"1312d00\r\n" + b" " * 20_000_000)
        assert to_the_end(connection).startswith(b"HTTP/1.1 413 ")
