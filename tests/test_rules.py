import re
from datetime import timedelta

import pytest
from msgspec import Raw

from ratus import rules, times
from ratus.config import Limits
from ratus.errors import BadRequest, NonceMismatch, TooLarge
from ratus.model import ClaimRequest, Commit, Extension, Hold, PageRequest, PollRequest, Promise, Task, TaskInput

NOW = times.from_ms(1_700_000_000_000)
SECOND = timedelta(seconds=1)
LIMITS = Limits()


def task(**given: object) -> Task:
    return rules.new_task(TaskInput(**{"id": "1", "topic": "t", **given}), NOW, LIMITS)  # type: ignore[arg-type]


def test_a_task_gets_its_defaults() -> None:
    assert task() == Task(id="1", topic="t", state=0, nonce="", produced=NOW, scheduled=NOW)


def test_all_that_is_given_is_stored() -> None:
    given = {
        "state": 1,
        "nonce": "n",
        "producer": "p",
        "consumer": "c",
        "produced": NOW - SECOND,
        "scheduled": NOW + SECOND,
        "consumed": NOW - 2 * SECOND,
        "deadline": NOW + 2 * SECOND,
        "payload": b"[1]",
    }
    assert task(**given) == Task(id="1", topic="t", **{**given, "payload": Raw(b"[1]")})  # type: ignore[arg-type]


def test_scheduled_wins_over_defer() -> None:
    assert task(defer=5 * SECOND).scheduled == NOW + 5 * SECOND
    assert task(defer=5 * SECOND, scheduled=NOW).scheduled == NOW


@pytest.mark.parametrize(
    ("given", "field", "message"),
    [
        ({"id": ""}, "id", "bad request: task ID must not be empty"),
        ({"topic": ""}, "topic", "bad request: topic must not be empty"),
        ({"state": 4}, "state", "bad request: invalid state 4"),
        ({"state": -1}, "state", "bad request: invalid state -1"),
        ({"id": "x" * 1025}, "id", "bad request: id: 1025 bytes exceed the maximum of 1024"),
        ({"id": "ž" * 513}, "id", "bad request: id: 1026 bytes exceed the maximum of 1024"),
        ({"id": "a\0"}, "id", "bad request: id: contains NUL"),
        ({"id": "\ud800"}, "id", "bad request: id: not UTF-8"),
        ({"topic": "a\0"}, "topic", "bad request: topic: contains NUL"),
        ({"producer": "a\0"}, "producer", "bad request: producer: contains NUL"),
        ({"consumer": "x" * 1025}, "consumer", None),
        ({"nonce": "x" * 1025}, "nonce", None),
        ({"payload": b"{"}, "payload", None),
        ({"defer": timedelta.max}, "defer", "bad request: defer: runs past the year 9999"),
    ],
)
def test_a_malformed_task(given: dict[str, object], field: str, message: str | None) -> None:
    with pytest.raises(BadRequest) as caught:
        task(**given)
    assert caught.value.field == field
    if message is not None:
        assert str(caught.value) == message


def test_names_of_1024_bytes_pass() -> None:
    assert task(id="ž" * 512, topic="x" * 1024).id == "ž" * 512


def test_an_entry_of_a_batch_is_named() -> None:
    inputs = [TaskInput(id="1", topic="t"), TaskInput(id="2", topic="t", payload=b"{")]
    with pytest.raises(BadRequest) as caught:
        rules.each(inputs, "tasks", lambda given: rules.new_task(given, NOW, LIMITS))
    assert caught.value.field == "tasks[1].payload"
    assert str(caught.value).startswith("bad request: tasks[1].payload: not JSON")
    inputs[1].payload = b'"' + b"a" * LIMITS.payload_bytes + b'"'
    with pytest.raises(TooLarge, match=re.escape("tasks[1].payload of ")):
        rules.each(inputs, "tasks", lambda given: rules.new_task(given, NOW, LIMITS))


def test_the_size_of_a_batch_is_bounded() -> None:
    assert len(rules.each([1] * 10_000, "tasks", lambda entry: entry)) == 10_000
    with pytest.raises(BadRequest, match="10001 entries exceed the maximum of 10000"):
        rules.each([1] * 10_001, "tasks", lambda entry: entry)


def test_nonces_are_16_alphanumerics_and_differ() -> None:
    nonces = {rules.new_nonce() for _ in range(10_000)}
    assert len(nonces) == 10_000
    assert all(re.fullmatch("[A-Za-z0-9]{16}", nonce) for nonce in nonces)
    letters = "".join(nonces)
    assert all(0.5 < letters.count(letter) / (len(letters) / 62) < 1.5 for letter in set(letters))
    assert len(set(letters)) == 62


def test_a_promise_lasts_10_minutes_unless_told_otherwise() -> None:
    assert rules.grant("c", None, None, NOW).deadline == NOW + timedelta(minutes=10)
    assert rules.grant("c", None, -SECOND, NOW).deadline == NOW - SECOND
    assert rules.grant("c", NOW, SECOND, NOW).deadline == NOW
    assert rules.grant("c", None, SECOND, NOW).consumed == NOW
    with pytest.raises(BadRequest, match="timeout: runs past the year 9999"):
        rules.end_of_promise(None, timedelta.max, NOW)
    assert rules.grant("c", None, timedelta.max, NOW).deadline == times.MAX_TIME


def test_a_commit_completes_by_default() -> None:
    commit = rules.check_commit(Commit(id="1"), NOW, LIMITS)
    assert commit == Commit(id="1", state=2)


def test_a_commit_applies_what_is_given() -> None:
    given = Commit(id="1", topic="u", state=0, defer=SECOND, payload=Raw(b"[ 1 ]"))
    commit = rules.check_commit(given, NOW, LIMITS)
    assert commit == Commit(id="1", topic="u", state=0, scheduled=NOW + SECOND, payload=Raw(b"[1]"))
    before = task(nonce="n", state=1, payload=b"0")
    after = rules.committed(before, commit)
    assert after == Task(
        id="1", topic="u", state=0, nonce="", produced=NOW, scheduled=NOW + SECOND, payload=Raw(b"[1]")
    )
    assert before.state == 1


def test_a_commit_leaves_what_is_not_given() -> None:
    before = task(nonce="n", state=1, payload=b"0", consumer="c", consumed=NOW, deadline=NOW)
    after = rules.committed(before, rules.check_commit(Commit(id="1", nonce="n"), NOW, LIMITS))
    assert after == task(state=2, payload=b"0", consumer="c", consumed=NOW, deadline=NOW)


@pytest.mark.parametrize(("nonce", "given"), [("n", "m"), ("", "m"), ("n", "N")])
def test_a_stale_nonce(nonce: str, given: str) -> None:
    commit = rules.check_commit(Commit(id="1", nonce=given), NOW, LIMITS)
    assert isinstance(rules.committed(task(nonce=nonce), commit), NonceMismatch)


@pytest.mark.parametrize(
    "given",
    [
        Commit(),
        Commit(id="1", state=4),
        Commit(id="1", topic="a\0"),
        Commit(id="1", nonce="x" * 1025),
        Commit(id="1", payload=Raw(b"{")),
        Commit(id="1", defer=timedelta.max),
    ],
)
def test_a_malformed_commit(given: Commit) -> None:
    with pytest.raises(BadRequest):
        rules.check_commit(given, NOW, LIMITS)


def test_pages() -> None:
    assert rules.check_page(PageRequest(), LIMITS).limit == 10
    assert rules.check_page(PageRequest(limit=100, offset=10_000), LIMITS).limit == 100
    assert rules.check_page(PageRequest(), Limits(page_limit=5)).limit == 5


@pytest.mark.parametrize(
    ("page", "message"),
    [
        (PageRequest(limit=101), "exceeded maximum allowed limit of 100"),
        (PageRequest(limit=-1), "limit must not be negative"),
        (PageRequest(offset=10_001), "exceeded maximum allowed offset of 10000"),
        (PageRequest(offset=-1), "offset must not be negative"),
    ],
)
def test_pages_out_of_range(page: PageRequest, message: str) -> None:
    with pytest.raises(BadRequest, match=f"^bad request: {message}$"):
        rules.check_page(page, LIMITS)


def test_claims() -> None:
    checked = rules.check_claim(ClaimRequest(topic="t"))
    assert (checked.limit, checked.wait) == (1, timedelta(0))


@pytest.mark.parametrize(
    ("request_", "field"),
    [
        (ClaimRequest(topic=""), "topic"),
        (ClaimRequest(topic="t", consumer="\0"), "consumer"),
        (ClaimRequest(topic="t", limit=1001), "limit"),
        (ClaimRequest(topic="t", limit=-1), "limit"),
        (ClaimRequest(topic="t", wait=-SECOND), "wait"),
        (ClaimRequest(topic="t", wait=timedelta(minutes=10, milliseconds=1)), "wait"),
    ],
)
def test_claims_out_of_range(request_: ClaimRequest, field: str) -> None:
    with pytest.raises(BadRequest) as caught:
        rules.check_claim(request_)
    assert caught.value.field == field


def test_streams() -> None:
    checked = rules.check_poll(PollRequest(topics=["t"]))
    assert (checked.max_in_flight, checked.timeout) == (1, timedelta(minutes=10))


@pytest.mark.parametrize(
    ("given", "field"),
    [
        ({"topics": []}, "topics"),
        ({"topics": ["t", ""]}, "topics[1]"),
        ({"timeout": timedelta(0)}, "timeout"),
        ({"timeout": -SECOND}, "timeout"),
        ({"max_in_flight": 10_001}, "max_in_flight"),
        ({"max_in_flight": -1}, "max_in_flight"),
        ({"max_bytes": -1}, "max_bytes"),
        ({"heartbeat": timedelta(milliseconds=999)}, "heartbeat"),
        ({"heartbeat": timedelta(minutes=6)}, "heartbeat"),
    ],
)
def test_streams_out_of_range(given: dict[str, object], field: str) -> None:
    with pytest.raises(BadRequest) as caught:
        rules.check_poll(PollRequest(**{"topics": ["t"], **given}))  # type: ignore[arg-type]
    assert caught.value.field == field


def test_promises_and_their_ends() -> None:
    with pytest.raises(BadRequest):
        rules.check_promise(Promise())
    with pytest.raises(BadRequest):
        rules.check_hold(Hold("1", ""))
    with pytest.raises(BadRequest):
        rules.check_extension(Extension(id="1"), NOW)
    extension = rules.check_extension(Extension(id="1", nonce="n", timeout=SECOND), NOW)
    assert extension.deadline == NOW + SECOND
