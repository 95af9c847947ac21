"""Claims that wait, that take many, and that can be repeated."""

import json
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any

import pytest

from tests.gateway.serving import Reply, Rest, serving

CLAIM = "/v1/topics/{}/promises{}"


@pytest.fixture
def aside() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(64) as pool:
        yield pool


def claim(rest: Rest, topic: str, query: str = "", body: Any = None) -> Reply:
    return rest("POST", CLAIM.format(topic, query), None if body is None else json.dumps(body))


def _ids(reply: Reply) -> list[str]:
    assert reply.status == 200
    assert list(reply.json) == ["data"]
    return [task["_id"] for task in reply.json["data"]]


def test_a_claim_that_waits_is_woken_by_an_insert(any_rest: Rest, topic: str, aside: ThreadPoolExecutor) -> None:
    waiting = aside.submit(claim, any_rest, topic, "?wait=20s&consumer=c&timeout=30s")
    any_rest.until(topic, waiting_consumers=1)
    any_rest.insert(topic, {"a": 1})
    task = waiting.result().json
    assert (task["_id"], task["state"], task["consumer"], task["payload"]) == (f"{topic}-0000", 1, "c", {"a": 1})
    assert any_rest.commit(task).status == 200


@pytest.mark.parametrize(("query", "body"), [("?wait=150ms", None), ("", {"wait": "150ms"})])
def test_without_a_task_until_the_wait_is_over(any_rest: Rest, topic: str, query: str, body: Any) -> None:
    began = time.monotonic()
    reply = claim(any_rest, topic, query, body)
    assert (reply.status, reply.json) == (404, {"error": {"code": 404, "message": "not found"}})
    assert time.monotonic() - began >= 0.15


@pytest.mark.parametrize("query", ["?wait=150ms&limit=5", "?limit=5"])
def test_a_list_may_be_empty(any_rest: Rest, topic: str, query: str) -> None:
    assert _ids(claim(any_rest, topic, query)) == []


def test_a_limit_makes_a_list(any_rest: Rest, topic: str) -> None:
    ids = any_rest.insert(topic, *range(10))
    assert _ids(claim(any_rest, topic, "?limit=3")) == ids[:3]
    assert _ids(claim(any_rest, topic, "", {"limit": 2, "wait": "20s"})) == ids[3:5]
    assert _ids(claim(any_rest, topic, "?limit=1", {"limit": 5})) == ids[5:6]  # the query wins
    assert _ids(claim(any_rest, topic, "?limit=0")) == ids[6:7]
    assert claim(any_rest, topic, "?limit=").json["_id"] == ids[7]
    assert claim(any_rest, topic, "", {"limit": None, "wait": None, "request_id": ""}).json["_id"] == ids[8]
    assert _ids(claim(any_rest, topic, "?limit=1000&wait=20s")) == ids[9:]  # what there is, at once


def test_a_wait_of_zero_is_none(any_rest: Rest, topic: str) -> None:
    assert claim(any_rest, topic, "?wait=0").status == 404
    assert claim(any_rest, topic, "?wait=0s", {"wait": "5m"}).status == 404
    assert _ids(claim(any_rest, topic, "?wait=0s&limit=1")) == []


def test_each_insert_wakes_one_of_many(any_rest: Rest, topic: str, aside: ThreadPoolExecutor) -> None:
    waiting = [aside.submit(claim, any_rest, topic, "?wait=20s") for _ in range(40)]
    any_rest.until(topic, waiting_consumers=40)
    ids = any_rest.insert(topic, *range(40))
    assert sorted(future.result().json["_id"] for future in waiting) == ids


def test_a_client_that_goes_away_while_it_waits_takes_no_task(any_rest: Rest, topic: str) -> None:
    with ExitStack() as stack:
        for query in ("wait=10m", "wait=10m&limit=7", "wait=10m&limit=7&request_id=r"):
            connection = stack.enter_context(any_rest.connect())
            path = f"{CLAIM.format(topic, '')}?{query}"
            connection.sendall(f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n".encode())
        any_rest.until(topic, waiting_consumers=3)
    any_rest.until(topic, waiting_consumers=0)
    any_rest.insert(topic, *range(5))
    assert (any_rest.stats(topic).pending, any_rest.stats(topic).active) == (5, 0)
    while any_rest.requests(topic).get(("POST", "/v1/topics/:topic/promises", "499"), 0) < 3:
        assert any_rest("GET", "/livez").status == 200


def test_a_repeat_with_the_same_request_id(any_rest: Rest, topic: str) -> None:
    ids = any_rest.insert(topic, *range(4))
    first = claim(any_rest, topic, "?limit=2&request_id=r&timeout=1m")
    assert _ids(first) == ids[:2]
    assert claim(any_rest, topic, "", {"limit": 2, "request_id": "r", "timeout": "1m"}).body == first.body
    assert any_rest.commit(first.json["data"][0]).status == 200
    assert _ids(claim(any_rest, topic, "?limit=2&request_id=r&timeout=1m")) == ids[1:2]
    reply = claim(any_rest, topic, "?limit=3&request_id=r&timeout=1m")
    assert (reply.status, reply.json["error"]["code"]) == (400, 400)
    assert reply.json["error"]["message"].startswith("bad request: request_id: ")


@pytest.mark.parametrize("query", ["wait=1s", "limit=1", "limit=0", "request_id=r", "wait=1s&limit=1"])
def test_a_claim_that_names_its_task_has_nothing_to_wait_for(any_rest: Rest, topic: str, query: str) -> None:
    [id] = any_rest.insert(topic, 1)
    name, _, value = query.partition("&")[0].partition("=")
    for reply in (
        claim(any_rest, topic, f"?{query}", {"_id": id}),
        claim(any_rest, topic, "", {"_id": id, name: int(value) if name == "limit" else value}),
    ):
        assert reply.status == 400
        assert reply.json["error"]["message"].startswith(f"bad request: {name}: ")
    assert any_rest.stats(topic).pending == 1
    assert claim(any_rest, topic, "?wait=&limit=", {"_id": id, "wait": "", "limit": None}).json["_id"] == id


def test_a_promise_on_a_path_ignores_what_it_does_not_know(any_rest: Rest, topic: str) -> None:
    [id] = any_rest.insert(topic, 1)
    reply = any_rest("POST", f"/v1/topics/{topic}/promises/{id}?wait=x&limit=y", '{"wait": 1, "limit": "x"}')
    assert (reply.status, reply.json["_id"]) == (200, id)


@pytest.mark.parametrize("remote", [False, True])
def test_a_drain_ends_the_wait(topic: str, aside: ThreadPoolExecutor, remote: bool) -> None:
    with serving(remote=remote) as rest:
        waiting: list[Future[Reply]] = [
            aside.submit(claim, rest, topic, f"?wait=10m{more}") for more in ("", "&limit=10")
        ]
        rest.until(topic, waiting_consumers=2)
        assert claim(rest, topic).status == 404  # by now they have looked once, and wait
        rest.drain()
        for future in waiting:
            reply = future.result()
            assert (reply.status, reply.json["error"]["code"]) == (503, 503)
            assert reply.json["error"]["message"].startswith("service unavailable: ")
