"""Requests that are mutated byte by byte: each gets answers that HTTP knows, none of them a 5xx, and breaks nothing."""

import random
import re
import socket
from collections import Counter
from pathlib import Path

from tests.fuzz.watching import REQUESTS, SEED, watched

BODIES = [
    b"",
    b"{}",
    b"null",
    b"[]",
    b'{"payload": %b}' % (b"[" * 50_000),
    b'{"payload": %b1%b}' % (b"[" * 101, b"]" * 101),
    b'{"payload": 1e400}',
    b'{"payload": %b}' % (b"9" * 5000),
    b'{"payload": "\\ud800"}',
    b'{"payload": {"a\\u0000": 1}}',
    b'{"a": ' * 20_000,
    b'{"data": [%b]}' % b",".join([b'{"_id": "a"}'] * 500),
    b'{"data": [{"_id": "\xff"}]}',
    b'{"defer": "9999999h", "timeout": "1e9s", "limit": 1e99}',
    b'{"state": -1}',
    b'{"scheduled": "9999-12-31T23:59:59.9999999999Z", "deadline": "0001-01-01T00:00:00+23:59"}',
    b'{"limit": 99999999999999999999, "consumer": null, "timeout": "-1ns"}',
]
SEGMENTS = [
    *(b"", b"t", b"a%2Fb", b"%00", b"%", b"%zz", b"%ff", b"%ed%a0%80", b"..", b"%2e%2e", b"\xc3\xa9", b"x" * 1100),
    *(b"tasks", b"promises", b"topics", b"stats", b"extend", b"commits", b"?", b"#", b"*", b"v1"),
]
PATHS = [
    *(b"/v1/topics", b"/topics/t", b"/v1/topics/t/tasks", b"/v1/topics/t/tasks/fuzz", b"/v1/topics/t/promises"),
    *(
        b"/v1/topics//promises/fuzz",
        b"/v1/topics/t/promises/fuzz/extend",
        b"/metrics",
        b"/readyz",
        b"/",
        b"/openapi.json",
    ),
    *(b"http://h/v1/topics", b"http://h", b"*", b"//h/v1/topics/"),
]
QUERIES = [
    *(
        b"",
        b"",
        b"?limit=-1",
        b"?limit=%b" % (b"9" * 5000),
        b"?offset=1e3",
        b"?timeout=1ns&consumer=%ff",
        b"?deadline=x",
    ),
    *(b"?wait=1ms&limit=0", b"?nonce=%00", b"?" + b"a=b&" * 2000, b"?limit=\xd9\xa1", b"?timeout=292y&wait=-1s"),
]
METHODS = [
    *[b"GET"] * 6,
    b"HEAD",
    b"POST",
    b"POST",
    b"PUT",
    b"PATCH",
    b"OPTIONS",
    b"TRACE",
    b"CONNECT",
    b"PRI",
    b"get",
    b"",
]
HEADERS = [
    *(b"Expect: 100-continue", b"Accept-Encoding: gzip", b"Connection: upgrade\r\nUpgrade: h2c", b"Connection: close"),
    *(b"Transfer-Encoding: chunked", b"Transfer-Encoding: gzip, chunked", b"Content-Length: 1", b"Content-Length: -1"),
    *(
        b"Content-Length: 99999999999999999999",
        b"Origin: x",
        b"X: " + b"y" * 10_000,
        b"X\0: y",
        b" folded: x",
        b": empty",
    ),
    *(
        b"Access-Control-Request-Headers: a\tb\xff",
        b"Accept: application/x-ndjson",
        b"Cookie: \xff\xfe",
        b"Host: a\r\nHost: b",
    ),
]
_STATUS = re.compile(rb"HTTP/1\.1 (\d{3}) ")


def request(dice: random.Random) -> bytes:
    """A request with some oddity, or several."""
    path = dice.choice(PATHS)
    if dice.random() < 0.5:
        path = b"/v1/topics/" + b"/".join(dice.choices(SEGMENTS, k=dice.randint(1, 4)))
    if b"tasks/canary" in path:
        path = b"/"
    body = dice.choice(BODIES)
    headers = [b"Host: x", *dice.sample(HEADERS, dice.choice([0, 0, 0, 0, 1, 3]))]
    if body and dice.random() < 0.9:
        headers.append(b"Content-Length: %d" % len(body))
    version = dice.choice([b"HTTP/1.1"] * 20 + [b"HTTP/1.0", b"HTTP/2.0", b"HTTP/0.9", b"", b"HTTP/1.1 x"])
    line = b"%b %b%b %b" % (dice.choice(METHODS), path, dice.choice(QUERIES), version)
    whole = bytearray(b"\r\n".join([line, *headers, b"", body]))
    if dice.random() < 0.15:
        for _ in range(dice.randint(1, 4)):
            place = dice.randrange(min(len(whole), 300))
            whole[place] = dice.randrange(256)
    if dice.random() < 0.1:
        del whole[dice.randrange(len(whole)) :]
    return bytes(whole)


def answers(port: int, data: bytes) -> list[int]:
    """The statuses of what is answered before the server closes the connection, which the client half-closes."""
    with socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
        received = b""
        try:
            connection.sendall(data)
            connection.shutdown(socket.SHUT_WR)
            while piece := connection.recv(65536):
                received += piece
        except TimeoutError:
            raise
        except OSError:
            pass  # the server did not want to read all of it
    return [int(status) for status in _STATUS.findall(received)]


def test_odd_requests_get_ordinary_answers(tmp_path: Path) -> None:
    dice = random.Random(SEED)
    seen: Counter[int] = Counter()
    sent = 0
    with watched(tmp_path) as server:
        while sent < REQUESTS:
            pipelined = [request(dice) for _ in range(dice.choice([1, 1, 1, 2, 5]))]
            statuses = answers(server.server.port, b"".join(pipelined))
            assert not [status for status in statuses if status >= 500], pipelined
            seen.update(statuses)
            sent += len(pipelined)
    print(f"REST: {sent} requests, answers {dict(sorted(seen.items()))}")
    assert {200, 400, 404} <= seen.keys()
