"""Bad input: each gets the error of the contract and changes nothing."""

import json

import pytest

from tests.gateway import bad_waits
from tests.gateway.bad_input import CASES, Case
from tests.gateway.serving import PAYLOAD_BYTES, Rest


def _tasks(rest: Rest, topic: str) -> object:
    return rest("GET", f"/v1/topics/{topic}/tasks?limit=100").json


@pytest.mark.parametrize("case", CASES + bad_waits.CASES, ids=lambda case: case.name)
def test_bad_input(any_rest: Rest, topic: str, case: Case) -> None:
    assert any_rest("POST", f"/v1/topics/{topic}/tasks/{topic}-1", '{"payload":1}').status == 201
    before = _tasks(any_rest, topic)
    body = case.body and case.body.replace(b"{T}", topic.encode())
    reply = any_rest(case.method, case.path.replace("{T}", topic), body)
    assert (reply.status, reply.json["error"]["code"]) == (case.status, case.status)
    assert reply.json["error"]["message"].startswith(case.message)
    assert reply.headers["content-type"] == "application/json"
    assert _tasks(any_rest, topic) == before


@pytest.mark.parametrize("method", ["POST", "PUT"])
def test_one_bad_entry_is_named(any_rest: Rest, topic: str, method: str) -> None:
    entries = [{"_id": f"{topic}-{number}", "payload": number} for number in range(3)]
    body = json.dumps({"data": entries}).replace('"payload": 2', '"payload": 1e400')
    reply = any_rest(method, f"/v1/topics/{topic}/tasks", body)
    assert reply.status == 400
    assert reply.json["error"]["message"].startswith("bad request: tasks[2].payload: ")
    assert any_rest("GET", f"/v1/topics/{topic}").status == 404


@pytest.mark.parametrize(
    ("sent", "returned"),
    [
        ("9223372036854775807", "9223372036854775807"),
        ("-9223372036854775808", "-9223372036854775808"),
        ("18446744073709551616", "1.8446744073709552e19"),
        ("1" + "0" * 40, "1e40"),
        ('{"$ref":"a","$id":1}', '{"$ref":"a","$id":1}'),
        ('{"a.b":{"$set":1}}', '{"a.b":{"$set":1}}'),
        ('"\\u0000"', '"\\u0000"'),
        ("[" * 100 + "]" * 100, "[" * 100 + "]" * 100),
        ("false", "false"),
        ("0", "0"),
        ('""', '""'),
    ],
)
def test_odd_payloads_come_back(any_rest: Rest, topic: str, sent: str, returned: str) -> None:
    path = f"/v1/topics/{topic}/tasks/{topic}"
    assert any_rest("POST", path, f'{{"payload": {sent}}}').status == 201
    assert any_rest("GET", path).body.endswith(f'"payload":{returned}}}'.encode())


def test_the_largest_payload_passes(any_rest: Rest, topic: str) -> None:
    payload = json.dumps("x" * (PAYLOAD_BYTES - 2))
    assert any_rest("POST", f"/v1/topics/{topic}/tasks/{topic}", f'{{"payload":{payload}}}').status == 201
    assert json.dumps(any_rest("POST", f"/v1/topics/{topic}/promises").json["payload"]) == payload
