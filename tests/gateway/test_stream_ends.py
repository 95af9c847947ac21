"""How streams end, and what happens to the tasks on their way."""

import asyncio
import json
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from tests.gateway.listening import NDJSON, SSE, Listener
from tests.gateway.serving import PAYLOAD_BYTES, Rest, serving

LARGE = "x" * (PAYLOAD_BYTES - 2)
DRAINING = "service unavailable: "


def listen(rest: Rest, topic: str, query: str = "", accept: str = NDJSON, **more: int) -> Listener:
    return Listener(rest, f"/v1/topics/{topic}/stream{query}", accept, **more)


def test_a_client_that_goes_away_while_it_waits_leaves_nothing(any_rest: Rest, topic: str) -> None:
    with ExitStack() as stack:
        for accept in (SSE, NDJSON):
            assert stack.enter_context(listen(any_rest, topic, "", accept)).line()
        stack.enter_context(listen(any_rest, topic))  # maybe before it has begun
        any_rest.until(topic, waiting_consumers=3)
    any_rest.until(topic, waiting_consumers=0)
    any_rest.insert(topic, *range(5))
    assert (any_rest.stats(topic).pending, any_rest.stats(topic).active) == (5, 0)


@pytest.mark.parametrize("query", ["", "&release_on_close=false", "&release_on_close=0"])
def test_what_was_delivered_stays_with_the_client(any_rest: Rest, topic: str, query: str) -> None:
    any_rest.insert(topic, *range(5))
    with listen(any_rest, topic, f"?max_in_flight=3{query}") as listener:
        tasks = listener.tasks(3)
    with listen(any_rest, topic) as other:  # the next one is not kept from the rest
        assert other.task()["payload"] == 3
    any_rest.until(topic, waiting_consumers=0)
    assert any_rest.stats(topic).active == 4
    assert [any_rest.commit(task).status for task in tasks] == [200, 200, 200]


@pytest.mark.parametrize("query", ["true", "1", "TRUE"])
def test_what_was_delivered_is_released(any_rest: Rest, topic: str, query: str) -> None:
    any_rest.insert(topic, *range(5))
    with listen(any_rest, topic, f"?max_in_flight=3&release_on_close={query}") as listener:
        committed, *held = listener.tasks(3)
        assert any_rest.commit(committed).status == 200
        assert listener.task()["payload"] == 3
    stats = any_rest.until(topic, active=0, pending=4)
    assert stats.completed == 1
    assert {any_rest.commit(task).status for task in held} == {409}


def _claim_all(rest: Rest, topic: str) -> Iterator[Any]:
    while tasks := rest("POST", f"/v1/topics/{topic}/promises?limit=20").json["data"]:
        yield from tasks


def _insert_many(rest: Rest, topic: str, parts: int) -> int:
    """About a MiB each part."""
    for part in range(parts):
        rest.insert(topic, *[LARGE] * 15, names=f"{topic}-{part}")
    return 15 * parts


def test_a_slow_reader_slows_only_itself(any_rest: Rest, topic: str) -> None:
    number = _insert_many(any_rest, topic, 32)
    with listen(any_rest, topic, "?max_in_flight=10000", buffer=4096) as slow:
        assert slow.line()  # it listens, and reads no more for now
        others = [task["_id"] for task in _claim_all(any_rest, topic)]
        assert any_rest("GET", "/livez").status == 200
        assert len(others) > number / 3  # the slow one was given no more than what is on its way
        any_rest.insert(topic, 1, names=f"{topic}-last")
        assert any_rest("POST", f"/v1/topics/{topic}/promises?wait=20s").json["payload"] == 1
        rest_of_it = slow.tasks(number - len(others) - 1)
        any_rest.insert(topic, 2, names=f"{topic}-end")
        assert slow.task()["payload"] == 2  # it has caught up
    ids = {*others, *(task["_id"] for task in rest_of_it)}
    assert len(ids) == len(others) + len(rest_of_it) == number - 1


@pytest.mark.parametrize("release", ["true", "false"])
def test_what_could_not_be_written_is_given_back(rest: Rest, topic: str, release: str) -> None:
    number = _insert_many(rest, topic, 24)
    with listen(rest, topic, f"?max_in_flight=10000&release_on_close={release}", buffer=4096) as slow:
        assert slow.line()
        while rest.stats(topic).active < 60:  # the first batch is larger than what the kernel keeps
            pass
        others = sum(1 for _ in _claim_all(rest, topic))
        taken = number - others
    if release == "true":
        rest.until(topic, pending=taken)
    else:
        while not rest.stats(topic).pending:
            pass
        left = sum(1 for _ in _claim_all(rest, topic))
        assert 0 < left < taken


@pytest.mark.parametrize("remote", [False, True])
def test_a_drain_ends_streams(topic: str, remote: bool) -> None:
    with serving(remote=remote) as rest, ExitStack() as stack:
        rest.insert(topic, 1)
        events = stack.enter_context(listen(rest, topic, "?release_on_close=true", SSE))
        held = json.loads(events.event()["data"])
        lines = stack.enter_context(listen(rest, topic))
        assert lines.line() == b"\n"
        rest.drain()
        event = events.event()
        assert event["event"] == "error"
        for error in (json.loads(event["data"]), lines.task()):
            assert list(error) == ["error"]
            assert error["error"]["code"] == 503
            assert error["error"]["message"].startswith(DRAINING)
        for listener in (events, lines):
            assert listener.answer.read() == b""  # whole: the last chunk has come
            assert listener.eof()
        assert rest.commit(held).status == 200  # the client keeps what it has
        late = rest("GET", f"/v1/topics/{topic}/stream")
        assert (late.status, late.json["error"]["code"]) == (503, 503)
        assert late.headers["content-type"] == "application/json"


def test_many_streams_leave_nothing_behind(any_rest: Rest, topic: str) -> None:
    def open_streams() -> int:
        return len(any_rest.service._delivery._subscriptions)

    for round in range(2):
        with ExitStack() as stack:
            listeners = [
                stack.enter_context(listen(any_rest, topic, "?release_on_close=true", (SSE, NDJSON)[number % 2]))
                for number in range(300)
            ]
            any_rest.until(topic, waiting_consumers=300 - 100 * round, active=100 * round)
            assert open_streams() == any_rest.run(_watched()) == 300
            any_rest.insert(topic, *range(100), names=f"{topic}-{round}")  # while they go away
            for listener in listeners[::2]:
                listener.close()
        any_rest.until(topic, waiting_consumers=0, active=0, pending=100 * (round + 1))
        assert open_streams() == 0
    assert {task["payload"] for task in _claim_all(any_rest, topic)} == set(range(100))
    assert any_rest.run(_watched()) == 0


async def _watched() -> int:
    """The clients that are still watched."""
    return sum(1 for task in asyncio.all_tasks() if "Client._watch" in repr(task.get_coro()))


def test_a_request_behind_a_stream_does_not_keep_it_alive(rest: Rest, topic: str) -> None:
    path = f"/topics/{topic}/stream?heartbeat=1s"
    with rest.connect() as connection:  # uvicorn tells of this one's end only when something is written
        connection.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\nGET /livez HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        rest.until(topic, waiting_consumers=1)
        assert connection.recv(1)
    rest.until(topic, waiting_consumers=0)
