"""Batches of commits over REST."""

import json
from typing import Any

from tests.gateway.serving import PAYLOAD_BYTES, Reply, Rest


def claim(rest: Rest, topic: str, limit: int) -> list[Any]:
    tasks: list[Any] = rest("POST", f"/v1/topics/{topic}/promises?limit={limit}").json["data"]
    return tasks


def commit(rest: Rest, *entries: dict[str, Any], query: str = "") -> Reply:
    return rest("PATCH", f"/v1/topics//tasks{query}", json.dumps({"data": entries}))


def test_each_commit_has_its_outcome(any_rest: Rest, topic: str) -> None:
    any_rest.insert(topic, *range(4))
    first, second, third, fourth = claim(any_rest, topic, 4)
    reply = commit(
        any_rest,
        {"_id": first["_id"], "nonce": first["nonce"]},
        {"_id": second["_id"], "nonce": "of somebody else"},
        {"_id": f"{topic}-missing"},
        {"_id": third["_id"], "nonce": third["nonce"], "state": 0, "defer": "1h", "payload": {"tries": 1}},
        {"_id": fourth["_id"], "topic": f"{topic}-next"},
        {"_id": first["_id"], "nonce": first["nonce"]},
    )
    assert reply.status == 200
    outcomes = reply.json["data"]
    assert [outcome["_id"] for outcome in outcomes] == [
        *(task["_id"] for task in (first, second)),
        f"{topic}-missing",
        *(task["_id"] for task in (third, fourth, first)),
    ]
    assert [outcome.get("error", {}).get("code") for outcome in outcomes] == [None, 409, 404, None, None, 409]
    assert outcomes[1]["error"]["message"].startswith("conflict: ")
    stats = any_rest.stats(topic)
    assert (stats.pending, stats.active, stats.completed) == (1, 1, 1)
    assert any_rest("GET", f"/v1/topics//tasks/{third['_id']}").json["payload"] == {"tries": 1}
    assert any_rest.stats(f"{topic}-next").completed == 1


def test_tasks_are_answered_when_asked_for_while_they_fit(any_rest: Rest, topic: str) -> None:
    any_rest.insert(topic, "x")
    for batch in range(5):
        any_rest.insert(topic, *["y" * (PAYLOAD_BYTES - 100)] * 14, names=f"{topic}-{batch}")
    tasks = claim(any_rest, topic, 1) + claim(any_rest, topic, 1000) + claim(any_rest, topic, 1000)
    assert len(tasks) == 71
    outcomes = commit(any_rest, *({"_id": task["_id"]} for task in tasks), query="?return_tasks=true").json["data"]
    assert outcomes[0]["task"]["payload"] == "x"
    assert outcomes[0]["task"]["state"] == 2
    answered = [task["_id"] for task, outcome in zip(tasks, outcomes, strict=True) if "task" in outcome]
    assert answered == [task["_id"] for task in tasks[: len(answered)]]
    assert 40 < len(answered) < 71
    assert not any("error" in outcome for outcome in outcomes)
    assert any_rest.stats(topic).completed == 71


def test_no_commits(any_rest: Rest) -> None:
    for body in ("{}", '{"data":null}', '{"data":[]}'):
        reply = any_rest("PATCH", "/v1/topics/t/tasks", body)
        assert (reply.status, reply.json) == (200, {"data": []})


def test_a_bad_commit_is_named(any_rest: Rest, topic: str) -> None:
    ids = any_rest.insert(topic, 1, 2)
    for entry, named in (({"state": 9}, "invalid target state 9"), ({"nonce": 1}, "commits[1].nonce")):
        reply = commit(any_rest, {"_id": ids[0]}, {"_id": ids[1], **entry})
        assert reply.status == 400
        assert named in reply.json["error"]["message"]
    assert any_rest.stats(topic).pending == 2
