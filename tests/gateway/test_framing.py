"""How streams look on the wire."""

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from gateway import errors, framing
from gateway.framing import JSONLines, ServerSentEvents
from ratus.errors import Draining
from ratus.model import Task, raw

NOW = datetime(2030, 1, 1, tzinfo=UTC)


def task(id: str, payload: Any = None) -> Task:
    return Task(id=id, topic="t", state=1, nonce="n", produced=NOW, scheduled=NOW, payload=raw(payload))


def test_server_sent_events() -> None:
    text = b'{"_id":"a b","topic":"t","state":1,"nonce":"n","produced":"2030-01-01T00:00:00Z","scheduled":"2030-01-01T00:00:00Z","payload":{"x":1}}'  # noqa: E501
    sse = ServerSentEvents()
    assert sse.task(task("a b", {"x": 1})) == b"event: task\nid: a b\ndata: " + text + b"\n\n"
    assert sse.heartbeat == b":\n\n"
    assert JSONLines().task(task("a b", {"x": 1})) == text + b"\n"
    assert JSONLines().heartbeat == b"\n"


@pytest.mark.parametrize("id", ["a\nb", "a\rdata: {}", "\n", "x\r\n\r\nevent: error"])
def test_an_id_does_not_break_an_event(id: str) -> None:
    lines = ServerSentEvents().task(task(id)).decode().splitlines()
    assert [line.partition(":")[0] for line in lines] == ["event", "data", ""]
    assert json.loads(lines[1].partition(": ")[2])["_id"] == id
    assert JSONLines().task(task(id)).count(b"\n") == 1


@pytest.mark.parametrize("payload", ["a\nb\r\nc", "\u2028\u2029\x85", "žluťoučký 🐎", {"\n": "\r"}, "\0"])
def test_a_payload_stays_in_its_line(payload: Any) -> None:
    events, line = ServerSentEvents().task(task("a", payload)), JSONLines().task(task("a", payload))
    assert events.count(b"\n") == 4
    assert line.count(b"\n") == 1
    assert b"\r" not in events + line
    assert json.loads(line)["payload"] == payload


def test_errors() -> None:
    answer = errors.answer(Draining())
    error = b'{"error":{"code":503,"message":"service unavailable: connect elsewhere"}}'
    assert ServerSentEvents().error(answer) == b"event: error\ndata: " + error + b"\n\n"
    assert JSONLines().error(answer) == error + b"\n"


@pytest.mark.parametrize(
    ("accept", "chosen"),
    [
        ("", ServerSentEvents),
        ("*/*", ServerSentEvents),
        ("application/json", ServerSentEvents),
        ("text/event-stream", ServerSentEvents),
        ("application/x-ndjson", JSONLines),
        ("Application/X-NDJSON; charset=utf-8", JSONLines),
        ("text/html, application/x-ndjson;q=0.9, */*", JSONLines),
        ("text/event-stream, application/x-ndjson", ServerSentEvents),
        ("application/x-ndjson,text/event-stream", JSONLines),
        ("žluť, ;,,", ServerSentEvents),
    ],
)
def test_the_framing_is_that_named_first(accept: str, chosen: type) -> None:
    assert type(framing.choose(accept)) is chosen
