from datetime import UTC, datetime, timedelta

import pytest
from msgspec import Raw

from gateway import bodies
from ratus.errors import BadRequest
from ratus.model import Commit, Promise, TaskInput

NEW_YEAR = datetime(2030, 1, 1, tzinfo=UTC)


def test_a_task_keeps_all_that_is_given() -> None:
    body = b"""{"_id": "i", "topic": "t", "state": 3, "nonce": "n", "producer": "p", "consumer": "c",
        "produced": "2030-01-01T00:00:00Z", "scheduled": "2030-01-01T01:00:00+01:00",
        "consumed": "2029-12-31T23:59:59.9999Z", "deadline": "2030-01-01T00:00:00.000Z",
        "payload": {"a" : 1e400}, "defer": "1h", "colour": ["red"]}"""
    assert bodies.task(body, "path", "i") == TaskInput(
        id="i",
        topic="t",
        state=3,
        nonce="n",
        producer="p",
        consumer="c",
        produced=NEW_YEAR,
        scheduled=NEW_YEAR,
        consumed=NEW_YEAR,
        deadline=NEW_YEAR,
        payload=b'{"a" : 1e400}',
        defer=timedelta(hours=1),
    )


FIELDS = ("_id", "topic", "nonce", "producer", "consumer", "produced", "scheduled", "consumed", "deadline", "defer")


@pytest.mark.parametrize("empty", ['""', "null"])
def test_empty_fields_are_absent(empty: str) -> None:
    body = "{" + ",".join(f'"{name}":{empty}' for name in FIELDS) + "}"
    assert bodies.task(body.encode(), "t", "i") == TaskInput(id="i", topic="t")
    assert bodies.tasks(f'{{"data":[{body}]}}'.encode(), "t") == [TaskInput(topic="t")]
    assert bodies.commit(body.encode(), "i") == Commit(id="i")
    assert bodies.promise(body.replace("defer", "timeout").encode(), {}) == Promise()


def test_null_is_absent() -> None:
    assert bodies.task(b'{"state":null}', "t", "i") == TaskInput(id="i", topic="t")
    assert bodies.commit(b'{"state":null}', "i") == Commit(id="i")
    assert bodies.tasks(b'{"data":null}', "t") == []


@pytest.mark.parametrize("payload", [b"false", b"0", b'""', b"null", b"[]", b"{}", b"1e400", b'{"a\\u0000":1}'])
def test_payloads_pass_unchecked(payload: bytes) -> None:
    body = b'{"payload":' + payload + b"}"
    assert bodies.task(body, "t", "i").payload == payload
    assert bodies.commit(body, "i").payload == Raw(payload)


def test_a_payload_is_no_view_of_the_body() -> None:
    task = bodies.task(b'{"payload":[1]}', "t", "i")
    assert type(task.payload) is bytes


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", "bad request: missing request body"),
        (b'{"_id":"other"}', "bad request: task ID is inconsistent with the path parameter"),
        (b'{"state":"0"}', "bad request: state: Expected `int | null`, got `str`"),
        (b'{"scheduled":"tomorrow"}', "bad request: scheduled: 'tomorrow' is not an RFC 3339 time"),
        (b'{"defer":"foo"}', 'bad request: time: invalid duration "foo"'),
        (b'{"x":' + b"[" * 10_000 + b"]" * 10_000 + b"}", "bad request: request body is nested too deeply"),
        (b'{"colour":"\xff"}', "bad request: request body is not UTF-8: invalid start byte"),
    ],
)
def test_what_is_wrong_is_named(body: bytes, message: str) -> None:
    with pytest.raises(BadRequest) as raised:
        bodies.task(body, "t", "i")
    assert str(raised.value) == message


@pytest.mark.parametrize(
    ("entry", "field"),
    [
        ('{"state":"0"}', "tasks[1].state"),
        ('{"_id":5}', "tasks[1]._id"),
        ("null", "tasks[1]"),
        ('{"deadline":"x"}', "tasks[1].deadline"),
        ('{"defer":"x"}', "tasks[1].defer"),
    ],
)
def test_batches_name_the_entry(entry: str, field: str) -> None:
    with pytest.raises(BadRequest) as raised:
        bodies.tasks(f'{{"data":[{{"_id":"a"}},{entry}]}}'.encode(), "t")
    assert raised.value.field == field


def test_a_batch_within_its_bound() -> None:
    with pytest.raises(BadRequest, match="10001 entries exceed the maximum of 10000"):
        bodies.tasks(b'{"data":[' + b"{}," * 10_000 + b"{}]}", "t")


def test_the_query_of_a_promise_wins() -> None:
    body = b'{"_id":"i","consumer":"b","timeout":"1m","deadline":"2030-01-01T00:00:00Z"}'
    assert bodies.promise(body, {}) == Promise(id="i", consumer="b", timeout=timedelta(minutes=1), deadline=NEW_YEAR)
    query = {"consumer": "q", "timeout": "2m", "deadline": "2030-01-01T00:00:01Z"}
    assert bodies.promise(body, query, "i") == Promise(
        id="i", consumer="q", timeout=timedelta(minutes=2), deadline=NEW_YEAR + timedelta(seconds=1)
    )
    assert bodies.promise(b"", {"timeout": "-5s"}) == Promise(timeout=timedelta(seconds=-5))
    with pytest.raises(BadRequest, match="promise ID is inconsistent with the path parameter"):
        bodies.promise(body, {}, "other")


@pytest.mark.parametrize("body", [b'{"deadline":"soon"}', b'{"timeout":"1x"}', b'{"wait":"1x"}'])
def test_a_body_is_not_malformed_even_where_the_query_wins(body: bytes) -> None:
    query = {"deadline": "2030-01-01T00:00:00Z", "timeout": "2m", "wait": "1s", "nonce": "n"}
    with pytest.raises(BadRequest):
        bodies.claim(body, query, "t")
    if b"wait" not in body:
        with pytest.raises(BadRequest):
            bodies.promise(body, query, "i")
        with pytest.raises(BadRequest):
            bodies.extension(body, query, "i")


def test_a_commit() -> None:
    body = b'{"nonce":"n","topic":"t","state":0,"scheduled":"2030-01-01T00:00:00Z","payload":2,"defer":"5s"}'
    assert bodies.commit(body, "i") == Commit(
        id="i", nonce="n", topic="t", state=0, scheduled=NEW_YEAR, payload=Raw(b"2"), defer=timedelta(seconds=5)
    )
    assert bodies.commit(b"", "i") == bodies.commit(b"{}", "i") == Commit(id="i")
