"""Streams of tasks: what is delivered, when, and how much at a time."""

import json
import re
import time
from datetime import datetime
from urllib.parse import quote

import pytest

from tests.gateway.listening import NDJSON, SSE, Listener
from tests.gateway.serving import PAYLOAD_BYTES, Rest

STREAM = "/v1/topics/{}/stream{}"


def listen(rest: Rest, topic: str, query: str = "", accept: str = NDJSON, **more: int) -> Listener:
    return Listener(rest, STREAM.format(topic, query), accept, **more)


ODD = ["žluťoučký 🐎\n\r\n", {"a\nb": ["\u2028", None, 2**63 - 1, 1.5]}, False, 0, "", "\0"]


def test_server_sent_events(any_rest: Rest, topic: str) -> None:
    ids = any_rest.insert(topic, *ODD)
    with listen(any_rest, topic, "?max_in_flight=100&consumer=c", SSE) as listener:
        assert listener.answer.status == 200
        headers = {name.lower(): value for name, value in listener.answer.getheaders()}
        assert headers["content-type"] == "text/event-stream"
        assert headers["cache-control"] == "no-store"
        assert headers["x-accel-buffering"] == "no"
        assert headers["access-control-allow-origin"] == "*"
        assert "content-encoding" not in headers
        for id, payload in zip(ids, ODD, strict=True):
            event = listener.event()
            assert (event["event"], event["id"]) == ("task", id)
            task = json.loads(event["data"])
            assert (task["_id"], task["consumer"], task["state"], task["payload"]) == (id, "c", 1, payload)
            assert event["data"] == any_rest("GET", f"/v1/topics//tasks/{id}").body.decode()


def test_lines_of_json(any_rest: Rest, topic: str) -> None:
    ids = any_rest.insert(topic, *ODD)
    with listen(any_rest, topic, "?max_in_flight=100") as listener:
        assert listener.answer.headers["content-type"] == NDJSON
        for id, payload in zip(ids, ODD, strict=True):
            line = listener.line()
            assert line == any_rest("GET", f"/v1/topics//tasks/{id}").body + b"\n"
            assert json.loads(line)["payload"] == payload


def test_ids_with_line_ends(any_rest: Rest, topic: str) -> None:
    ids = [f"{topic}\n{number}\r\n\r\ndata: x" for number in range(3)]
    for id in ids:
        assert any_rest("POST", f"/v1/topics/{topic}/tasks/{quote(id, safe='')}", "{}").status == 201
    with listen(any_rest, topic, accept=SSE) as listener:
        for id in ids:
            event = listener.event()
            assert "id" not in event
            task = json.loads(event["data"])
            assert task["_id"] == id
            assert any_rest.commit(task).status == 200


def test_nothing_is_packed(any_rest: Rest, topic: str) -> None:
    any_rest.insert(topic, "x" * 10_000)
    with Listener(any_rest, STREAM.format(topic, ""), headers={"Accept-Encoding": "gzip"}) as listener:
        assert "content-encoding" not in listener.answer.headers
        assert listener.task()["payload"] == "x" * 10_000


@pytest.mark.parametrize("prefix", ["", "/v1"])
def test_tasks_arrive_as_they_become_due(any_rest: Rest, topic: str, prefix: str) -> None:
    with Listener(any_rest, f"{prefix}/topics/{topic}/stream?max_in_flight=10") as listener:
        assert listener.line() == b"\n"  # it has begun, though there is nothing yet
        any_rest.until(topic, waiting_consumers=1)
        [id] = any_rest.insert(topic, 1)
        assert listener.task()["_id"] == id
        any_rest.insert(topic, 1, names=f"{topic}-2", defer="200ms")
        task = listener.task()
        assert task["_id"] == f"{topic}-2-0000"
        assert datetime.fromisoformat(task["consumed"]) >= datetime.fromisoformat(task["scheduled"])


@pytest.mark.parametrize("query", ["", "?max_in_flight=1", "?max_in_flight=0"])
def test_a_window_of_one(any_rest: Rest, topic: str, query: str) -> None:
    ids = any_rest.insert(topic, *range(5))
    with listen(any_rest, topic, query) as listener:
        for number, id in enumerate(ids):
            task = listener.task()
            assert task["_id"] == id
            assert any_rest.stats(topic).pending == 4 - number
            assert any_rest.commit(task).status == 200


def test_a_window_of_three_moves_with_commits(any_rest: Rest, topic: str) -> None:
    ids = any_rest.insert(topic, *range(30))
    with listen(any_rest, topic, "?max_in_flight=3") as listener:
        held = listener.tasks(3)
        for _ in range(27):
            assert any_rest.stats(topic).active == 3
            assert any_rest.commit(held.pop(0)).status == 200
            held.append(listener.task())
        assert [task["_id"] for task in held] == ids[-3:]
        back = any_rest.commit(held[0], state=0)  # given back, and delivered again
        assert back.status == 200
        assert listener.task()["_id"] == ids[-3]


def test_a_window_in_bytes(any_rest: Rest, topic: str) -> None:
    ids = any_rest.insert(topic, *["x" * 1000] * 5, "x" * 4000)
    with listen(any_rest, topic, "?max_in_flight=100&max_bytes=2500") as listener:
        held = listener.tasks(2)
        any_rest.until(topic, active=2)
        any_rest.commit(held[0])
        held.append(listener.task())
        any_rest.until(topic, active=2)
        for _ in range(2):
            any_rest.commit(held.pop(1))
            held.append(listener.task())
        any_rest.commit(held.pop(1))
        any_rest.commit(held.pop(1))
        assert listener.task()["_id"] == ids[-1]  # one always passes


def test_a_missed_deadline_is_delivered_again(any_rest: Rest, topic: str) -> None:
    [id] = any_rest.insert(topic, 1)
    with listen(any_rest, topic, "?timeout=100ms") as listener:
        first, again = listener.task(), listener.task()
    assert first["_id"] == again["_id"] == id
    assert first["nonce"] != again["nonce"]


def test_heartbeats(any_rest: Rest, topic: str) -> None:
    began = time.monotonic()
    with listen(any_rest, topic, "?heartbeat=1s") as lines, listen(any_rest, topic, "?heartbeat=1s", SSE) as events:
        for _ in range(3):  # the first one opens the stream
            assert lines.line() == b"\n"
            assert [events.line(), events.line()] == [b":\n", b"\n"]
        assert time.monotonic() - began >= 2


def test_heartbeats_while_the_window_is_full(any_rest: Rest, topic: str) -> None:
    any_rest.insert(topic, 1, 2)
    with listen(any_rest, topic, "?heartbeat=1s") as listener:
        assert listener.task()["payload"] == 1
        assert [listener.line(), listener.line()] == [b"\n", b"\n"]
        assert any_rest.stats(topic).pending == 1


def test_several_topics(any_rest: Rest, topic: str) -> None:
    others = [f"{topic}-b", f"{topic}/ž"]
    for name in (topic, *others):
        any_rest.insert(name, *range(20))
    query = "&".join(f"topic={quote(name, safe='')}" for name in others)
    with listen(any_rest, topic, f"?{query}") as listener:
        first = [listener.task()]
        for _ in range(5):
            any_rest.commit(first[-1])
            first.append(listener.task())
        assert {task["topic"] for task in first} == {topic, *others}  # in turn
    for name in (topic, *others):
        any_rest.until(name, waiting_consumers=0)
    with listen(any_rest, "", f"?{query}&topic=&max_in_flight=1000") as listener:
        tasks = listener.tasks(36)
        assert {task["topic"] for task in tasks} == set(others)


def test_streams_on_one_topic_share_it(any_rest: Rest, topic: str) -> None:
    listeners = [listen(any_rest, topic, "?max_in_flight=1000") for _ in range(4)]
    for listener in listeners:
        assert listener.line() == b"\n"
    any_rest.until(topic, waiting_consumers=4)
    ids = any_rest.insert(topic, *range(100))
    tasks = [listener.tasks(15) for listener in listeners]  # nobody gets less than half of a fair share
    for listener in listeners:
        listener.close()
    got = [task["_id"] for each in tasks for task in each]
    assert len(set(got)) == len(got)
    assert set(got) <= set(ids)


def test_large_payloads(any_rest: Rest, topic: str) -> None:
    payloads = [str(number) * (PAYLOAD_BYTES - 2) for number in range(10)] * 10
    any_rest.insert(topic, *payloads[:10])
    for part in range(1, 10):
        any_rest.insert(topic, *payloads[:10], names=f"{topic}-{part}")
    with listen(any_rest, topic, "?max_in_flight=1000") as listener:
        tasks = listener.tasks(100)
    assert sorted(task["payload"] for task in tasks) == sorted(payloads)
    assert len({task["_id"] for task in tasks}) == 100


def test_head_opens_no_stream(any_rest: Rest, topic: str) -> None:
    any_rest.insert(topic, 1)
    reply = any_rest("HEAD", STREAM.format(topic, "?max_in_flight=10"), headers={"Accept": NDJSON})
    assert (reply.status, reply.headers["content-type"], reply.body) == (200, NDJSON, b"")
    assert "content-length" not in reply.headers
    assert any_rest.stats(topic).active == 0
    assert any_rest("HEAD", STREAM.format(topic, "?max_in_flight=x")).status == 400
    redirected = any_rest("GET", STREAM.format(topic, "/?heartbeat=1s"))
    assert (redirected.status, redirected.headers["location"]) == (301, STREAM.format(topic, "?heartbeat=1s"))
    assert any_rest("POST", STREAM.format(topic, "")).status == 404


def test_a_stream_is_counted_with_the_time_to_its_first_byte(any_rest: Rest, topic: str) -> None:
    began = time.monotonic()
    with listen(any_rest, topic, "?heartbeat=1s") as listener:
        assert listener.line() == b"\n"
        opened = time.monotonic() - began
        for _ in range(2):
            assert listener.line() == b"\n"
    counted = ("GET", "/v1/topics/:topic/stream", "200")
    while counted not in any_rest.requests(topic):
        assert any_rest("GET", "/livez").status == 200
    labels = f'endpoint="{counted[1]}",method="GET",status_code="200",topic="{topic}"'
    [seconds] = re.findall(
        rf"ratus_request_duration_seconds_sum{{{re.escape(labels)}}} (\S+)\n",
        any_rest("GET", "/metrics").body.decode(),
    )
    assert 0 < float(seconds) < opened
