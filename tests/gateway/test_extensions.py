"""Promises that get another deadline."""

import json
from datetime import datetime, timedelta
from typing import Any, cast

import httpx
import pytest
from prometheus_client import CollectorRegistry

from gateway import create_app
from ratus import times
from ratus.backend import Backend
from ratus.model import Task
from tests.gateway.serving import Reply, Rest
from tests.gateway.stub_backend import StubBackend

CONFLICT = {"error": {"code": 409, "message": "conflict: the task may have been modified by others"}}


def held(rest: Rest, topic: str) -> Any:
    rest.insert(topic, 1)
    task = rest("POST", f"/v1/topics/{topic}/promises?timeout=1m&consumer=c").json
    assert task["state"] == 1
    return task


def extend(rest: Rest, topic: str, id: str, query: str = "", body: Any = None, prefix: str = "/v1") -> Reply:
    path = f"{prefix}/topics/{topic}/promises/{id}/extend{query}"
    return rest("POST", path, None if body is None else json.dumps(body))


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text)


def test_a_promise_is_extended_and_shown(any_rest: Rest, topic: str) -> None:
    task = held(any_rest, topic)
    reply = extend(any_rest, topic, task["_id"], f"?nonce={task['nonce']}&timeout=1h")
    assert reply.status == 200
    assert reply.body == any_rest("GET", f"/v1/topics/{topic}/promises/{task['_id']}").body
    assert list(reply.json) == ["_id", "consumer", "deadline"]
    later = _time(reply.json["deadline"]) - _time(task["deadline"])
    assert timedelta(minutes=59) <= later < timedelta(minutes=60)
    assert any_rest("GET", f"/v1/topics//tasks/{task['_id']}").json["nonce"] == task["nonce"]
    assert any_rest.commit(task).status == 200


def test_query_body_and_defaults(any_rest: Rest, topic: str) -> None:
    task = held(any_rest, topic)
    id, nonce = task["_id"], task["nonce"]
    far, near = "2999-01-01T00:00:00Z", "2998-01-01T00:00:00Z"
    reply = extend(any_rest, "", id, "", {"_id": id, "nonce": nonce, "deadline": far, "timeout": "1s"}, prefix="")
    assert (reply.status, reply.json["deadline"]) == (200, far)
    reply = extend(any_rest, topic, id, f"?nonce={nonce}&deadline={near}", {"nonce": "x", "deadline": far})
    assert (reply.status, reply.json["deadline"]) == (200, near)
    reply = extend(any_rest, topic, id, "?timeout=", {"nonce": nonce, "timeout": None, "deadline": ""})
    left = _time(reply.json["deadline"]) - _time(task["consumed"])  # an earlier one, the default of ten minutes
    assert timedelta(minutes=10) <= left < timedelta(minutes=11)


def test_a_promise_that_is_not_held_conflicts(any_rest: Rest, topic: str) -> None:
    task = held(any_rest, topic)
    id, nonce = task["_id"], task["nonce"]
    assert extend(any_rest, topic, f"{topic}-none", f"?nonce={nonce}").json == CONFLICT
    assert extend(any_rest, topic, id, "?nonce=other&timeout=1h").json == CONFLICT
    before = any_rest("GET", f"/v1/topics//tasks/{id}").body
    assert b'"deadline":"%s"' % task["deadline"].encode() in before
    assert any_rest.commit(task).status == 200
    reply = extend(any_rest, topic, id, f"?nonce={nonce}")
    assert (reply.status, reply.json) == (409, CONFLICT)


def test_a_shorter_deadline_is_acted_on(any_rest: Rest, topic: str) -> None:
    task = held(any_rest, topic)
    assert extend(any_rest, topic, task["_id"], f"?nonce={task['nonce']}&timeout=500ms").status == 200
    again = any_rest("POST", f"/v1/topics/{topic}/promises?wait=20s").json
    assert again["_id"] == task["_id"]
    assert again["nonce"] != task["nonce"]


@pytest.mark.parametrize(("query", "body"), [("", None), ("?nonce=", None), ("?timeout=1h", {}), ("", {"nonce": ""})])
def test_without_a_nonce(any_rest: Rest, topic: str, query: str, body: Any) -> None:
    task = held(any_rest, topic)
    reply = extend(any_rest, topic, task["_id"], query, body)
    assert (reply.status, reply.json["error"]["message"]) == (400, "bad request: nonce: must not be empty")


def test_only_post_extends(any_rest: Rest, topic: str) -> None:
    task = held(any_rest, topic)
    for method in ("GET", "PUT", "PATCH", "DELETE"):
        assert any_rest(method, f"/v1/topics/{topic}/promises/{task['_id']}/extend").status == 404
    assert any_rest("POST", f"/v1/topics/{topic}/tasks/{task['_id']}/extend").status == 404
    assert any_rest("POST", f"/v1/topics/{topic}/promises/{task['_id']}/shrink").status == 404


async def test_the_promise_of_another_is_not_told() -> None:
    """Between the extension and the look at what it has come to, the promise has ended and another was made."""

    now = times.now()
    task = Task(id="1", topic="t", state=1, nonce="n2", consumer="other", produced=now, scheduled=now)
    backend = StubBackend([None], task, [None], task)
    app = create_app(cast(Backend, backend), registry=CollectorRegistry())
    async with httpx.AsyncClient(transport=httpx.ASGITransport(cast(Any, app)), base_url="http://x/v1") as http:
        mine = await http.post("/topics/t/promises/1/extend?nonce=n1")
        other = await http.post("/topics/t/promises/1/extend?nonce=n2")
    assert (mine.status_code, mine.json()) == (409, CONFLICT)
    assert (other.status_code, other.json()["consumer"]) == (200, "other")
