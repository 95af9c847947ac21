"""What the face does with requests and answers, whatever the route."""

import contextlib
import gzip
import http.client
import json
import re
import socket

import pytest

from tests.gateway.serving import REQUEST_BYTES, Rest

HEAD = "{method} {path} HTTP/1.1\r\nHost: x\r\n{headers}\r\n"


def _begin(connection: socket.socket, method: str, path: str, headers: str) -> None:
    connection.sendall(HEAD.format(method=method, path=path, headers=headers).encode())


def _answer(connection: socket.socket) -> tuple[int, bytes]:
    """The next answer, of which there is no other behind it yet."""
    with contextlib.closing(http.client.HTTPResponse(connection)) as answer:
        answer.begin()
        return answer.status, answer.read()


def test_every_answer_is_for_all_origins(rest: Rest) -> None:
    for path in ("/topics", "/nope", "/topics/", "/livez", "/metrics", "/", "/openapi.json", "/topics?limit=x"):
        for headers in ({}, {"Origin": "http://example.org"}):
            assert rest("GET", path, headers=headers).headers["access-control-allow-origin"] == "*"


def test_preflight(rest: Rest) -> None:
    asked = {"Access-Control-Request-Method": "PATCH", "Access-Control-Request-Headers": "content-type, x-mine"}
    for path in ("/v1/topics/t/tasks/i", "/topics", "/nope", "/"):
        reply = rest("OPTIONS", path, headers={"Origin": "http://example.org", **asked})
        assert (reply.status, reply.body) == (204, b"")
        assert reply.headers["access-control-allow-origin"] == "*"
        assert reply.headers["access-control-allow-headers"] == "content-type, x-mine"
        assert "PATCH" in reply.headers["access-control-allow-methods"].split(", ")
        assert "content-length" not in reply.headers


def test_gzip_when_asked_for_and_worth_it(rest: Rest, topic: str) -> None:
    path = f"/v1/topics/{topic}/tasks/{topic}"
    assert rest("POST", path, json.dumps({"payload": "x" * 2000})).status == 201
    plain = rest("GET", path)
    assert "content-encoding" not in plain.headers
    assert plain.headers["vary"] == "Accept-Encoding"
    packed = rest("GET", path, headers={"Accept-Encoding": "deflate, gzip"})
    assert (packed.headers["content-encoding"], packed.headers["vary"]) == ("gzip", "Accept-Encoding")
    assert gzip.decompress(packed.body) == plain.body
    for given in ("gzip;q=0", "br, gzip; q=0.000", "gzip ;q=0 , br"):
        refused = rest("GET", path, headers={"Accept-Encoding": given})
        assert "content-encoding" not in refused.headers
    assert "content-encoding" in rest("GET", path, headers={"Accept-Encoding": "gzip;q=0.5"}).headers
    assert int(packed.headers["content-length"]) == len(packed.body) < 200
    assert "content-encoding" not in rest("GET", f"/topics/{topic}", headers={"Accept-Encoding": "gzip"}).headers


def test_head_is_get_without_a_body(rest: Rest, topic: str) -> None:
    assert rest("POST", f"/topics/{topic}/tasks/{topic}", "{}").status == 201
    for path in (f"/topics/{topic}", "/topics?limit=x", "/livez", "/readyz", "/", "/openapi.json", "/nope"):
        get, head = rest("GET", path), rest("HEAD", path)
        assert (head.status, head.body) == (get.status, b"")
        assert head.headers.get("content-length") == get.headers.get("content-length")


@pytest.mark.parametrize("kind", [None, "application/json", "application/x-www-form-urlencoded", "text/plain", "@"])
def test_the_content_type_does_not_matter(rest: Rest, topic: str, kind: str | None) -> None:
    headers = {} if kind is None else {"Content-Type": kind}
    assert rest("POST", f"/topics/{topic}/tasks/{topic}", '{"payload":1}', headers).status == 201
    assert rest("GET", f"/topics//tasks/{topic}").json["payload"] == 1


def test_a_chunked_body(rest: Rest, topic: str) -> None:
    with rest.connect() as connection:
        _begin(connection, "POST", f"/topics/{topic}/tasks/{topic}", "Transfer-Encoding: chunked\r\n")
        for part in (b'{"pay', b'load":', b"[1,2", b"]}"):
            connection.sendall(b"%x\r\n%s\r\n" % (len(part), part))
        connection.sendall(b"0\r\n\r\n")
        assert _answer(connection) == (201, b'{"created":1,"updated":0}')
    assert rest("GET", f"/topics//tasks/{topic}").json["payload"] == [1, 2]


def test_the_largest_body_passes(rest: Rest, topic: str) -> None:
    body = b'{"data":[{"_id":"%s"}]}' % topic.encode()
    assert rest("POST", f"/topics/{topic}/tasks", body.ljust(REQUEST_BYTES)).status == 201
    assert rest("POST", f"/topics/{topic}/tasks", body.ljust(REQUEST_BYTES + 1)).status == 413


def test_a_body_over_the_limit(rest: Rest, topic: str) -> None:
    path = f"/topics/{topic}/tasks/{topic}"
    with rest.connect() as connection:
        _begin(connection, "POST", path, f"Content-Length: {REQUEST_BYTES + 1}\r\n")
        connection.sendall(b" ")  # the rest is not waited for
        status, body = _answer(connection)
    assert (status, json.loads(body)["error"]["code"]) == (413, 413)
    assert json.loads(body)["error"]["message"].startswith("too large: ")
    assert rest("GET", path).status == 404


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH"])
def test_a_body_over_the_limit_without_content_length(rest: Rest, topic: str, method: str) -> None:
    path = f"/topics/{topic}/tasks/{topic}"
    chunk = b"10000\r\n" + b" " * 0x10000 + b"\r\n"
    with rest.connect() as connection:
        _begin(connection, method, path, "Transfer-Encoding: chunked\r\n")
        for _ in range(REQUEST_BYTES // 0x10000 + 1):
            connection.sendall(chunk)
        status, body = _answer(connection)
        assert (status, json.loads(body)["error"]["code"]) == (413, 413)
        connection.sendall(b"0\r\n\r\n")
        _begin(connection, "GET", path, "")  # the connection is still of use
        assert _answer(connection)[0] == 404


def test_requests_in_a_row_on_one_connection(rest: Rest, topic: str) -> None:
    with rest.connect() as connection:
        requests = "".join(
            HEAD.format(method="POST", path=f"/topics/t/tasks/{topic}-{number}", headers=f"Content-Length: 2\r\n{more}")
            + "{}"
            for number, more in enumerate(("", "", "Connection: close\r\n"))
        )
        connection.sendall(requests.encode())
        with connection.makefile("rb") as answers:  # of which several may come at once
            assert re.findall(rb"HTTP/1\.1 (\d+)", answers.read()) == [b"201"] * 3


@pytest.mark.parametrize("framing", ["Content-Length: 100\r\n", "Transfer-Encoding: chunked\r\n"])
def test_a_client_that_goes_away_in_the_middle_of_a_body(rest: Rest, topic: str, framing: str) -> None:
    path = f"/topics/{topic}/tasks/{topic}"
    assert rest("POST", path, '{"payload":1}').status == 201
    with rest.connect() as connection:
        _begin(connection, "PATCH", path, framing)
        connection.sendall(b'{"payload":2' if "Length" in framing else b'c\r\n{"payload":2\r\n')
    gone = ("PATCH", "/topics/:topic/tasks/:id", "499")
    while gone not in rest.requests(topic):
        assert rest("GET", "/livez").status == 200
    assert rest("GET", path).json["state"] == 0
    assert rest("GET", path).json["payload"] == 1


def test_a_client_that_does_not_wait_for_its_claim(rest: Rest, topic: str) -> None:
    assert rest("POST", f"/topics/{topic}/tasks/{topic}", "{}").status == 201
    with rest.connect() as connection:
        _begin(connection, "POST", f"/topics/{topic}/promises?timeout=50ms", "Content-Length: 0\r\n")
    while not rest.requests(topic).get(("POST", "/topics/:topic/promises", "200")):
        assert rest("GET", "/livez").status == 200
    while rest("GET", f"/topics//tasks/{topic}").json["state"] != 0:  # until recovery has noticed
        pass
    assert rest("POST", f"/topics/{topic}/promises").json["_id"] == topic


def test_requests_are_measured(rest: Rest, topic: str) -> None:
    rest("POST", f"/v1/topics/{topic}/tasks/{topic}", "{}")
    rest("POST", f"/v1/topics/{topic}/tasks/{topic}", "{}")
    rest("GET", f"/topics/{topic}")
    rest("PATCH", f"/topics/{topic}")
    assert rest.requests(topic) == {
        ("POST", "/v1/topics/:topic/tasks/:id", "201"): 1,
        ("POST", "/v1/topics/:topic/tasks/:id", "409"): 1,
        ("GET", "/topics/:topic", "200"): 1,
    }
    rest("PROPFIND", "/topics")
    rest("GET", f"/topics/{'x' * 2000}")
    assert ("other", "", "404") in rest.requests("")
    assert ("PATCH", "", "404") in rest.requests("")
    assert ("GET", "/topics/:topic", "400") in rest.requests("other")


def test_probes(rest: Rest) -> None:
    for prefix in ("", "/v1"):
        for path in ("/healthz", "/livez", "/readyz"):
            reply = rest("GET", prefix + path)
            assert (reply.status, reply.body) == (200, b"")
            assert "content-type" not in reply.headers


def test_metrics_in_both_formats(rest: Rest) -> None:
    rest("GET", "/livez")
    text = rest("GET", "/metrics")
    assert text.headers["content-type"].startswith("text/plain; version=")
    assert (
        b'ratus_request_duration_seconds_bucket{endpoint="/livez",le="0.01",method="GET",status_code="200"' in text.body
    )
    for bucket in (b"0.1", b"0.5", b"1.0", b"2.0", b"5.0", b"+Inf"):
        assert b'le="' + bucket + b'"' in text.body
    opened = rest("GET", "/metrics", headers={"Accept": "application/openmetrics-text; version=1.0.0"})
    assert opened.headers["content-type"].startswith("application/openmetrics-text")
    assert opened.body.endswith(b"# EOF\n")
