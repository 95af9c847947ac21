"""Converters: what goes in comes out, and what cannot be carried is refused in the words of the rules."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp
from msgspec import Raw

from ratus.errors import BadRequest
from ratus.model import ClaimRequest, Commit, PageRequest, Promise, Task, TaskInput, Topic, TopicStats
from ratus.rpc import wire
from ratus.rpc.times import read_duration, read_time, write_duration, write_time
from ratus.v1 import promise_service_pb2, task_pb2, task_service_pb2

MOMENT = datetime(2026, 2, 3, 4, 5, 6, 789000, tzinfo=UTC)
MIN = datetime(1, 1, 1, tzinfo=UTC)
MAX = datetime(9999, 12, 31, 23, 59, 59, 999000, tzinfo=UTC)


def sent(message: Any) -> Any:
    """The message as the other side parses it."""
    return type(message).FromString(message.SerializeToString())


FULL = Task(
    id="a/ü",
    topic="t",
    state=1,
    nonce="n" * 16,
    producer="p",
    consumer="c",
    produced=MIN,
    scheduled=MOMENT,
    consumed=MOMENT,
    deadline=MAX,
    payload=Raw(b'{"a":[1,2.5,"\xc3\xbc"]}'),
)
BARE = Task(id="b", topic="t", state=0, nonce="", produced=MOMENT, scheduled=MOMENT)


@pytest.mark.parametrize("task", [FULL, BARE])
def test_stored_tasks_survive(task: Task) -> None:
    back = wire.read_task(sent(task_pb2.Task(**wire.write_task(task))))
    assert back == task
    assert back.payload is None or bytes(back.payload) == bytes(task.payload)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "given",
    [
        TaskInput(),
        TaskInput(
            id="i",
            topic="t",
            state=3,
            nonce="n",
            producer="p",
            consumer="c",
            produced=MIN,
            scheduled=MAX,
            consumed=MOMENT,
            deadline=MOMENT,
            payload=b"[1]",
            defer=timedelta(seconds=-1, milliseconds=-500),
        ),
        TaskInput(id="zero", state=0, defer=timedelta(0)),
    ],
)
def test_given_tasks_survive(given: TaskInput) -> None:
    assert wire.read_task_input(sent(wire.write_task_input(given))) == given


@pytest.mark.parametrize(
    "given",
    [
        Commit(id="i"),
        Commit(id="i", nonce="n", topic="t", state=0, scheduled=MOMENT, payload=Raw(b"1"), defer=timedelta(hours=1)),
    ],
)
def test_commits_survive(given: Commit) -> None:
    assert wire.read_commit("i", sent(wire.write_commit(given))) == given


def test_promises_claims_topics_and_statistics_survive() -> None:
    for promise in (Promise(id="i"), Promise(id="i", consumer="c", deadline=MOMENT, timeout=timedelta(0))):
        assert wire.read_promise(sent(wire.write_promise(promise))) == promise
    for claim in (
        ClaimRequest(topic="t"),
        ClaimRequest(
            topic="t",
            consumer="c",
            deadline=MOMENT,
            timeout=timedelta(seconds=1),
            limit=7,
            wait=timedelta(minutes=1),
            request_id="r",
        ),
    ):
        assert wire.read_claim(sent(wire.write_claim(claim))) == claim
    assert wire.read_topic(sent(wire.write_topic(Topic("t", 2**40)))) == Topic("t", 2**40)
    for stats in (
        TopicStats(),
        TopicStats(
            pending=1,
            active=2,
            completed=3,
            archived=4,
            due=5,
            oldest_due=MOMENT,
            next_scheduled=MAX,
            waiting_consumers=6,
        ),
    ):
        assert wire.read_stats(sent(wire.write_stats(stats))) == stats


def test_a_poll_is_read() -> None:
    message = promise_service_pb2.PollRequest(
        topics=["a", "b"], consumer="c", max_in_flight=5, max_bytes=2**40, release_on_close=True
    )
    message.timeout.FromMilliseconds(1500)
    poll = wire.read_poll(sent(message))
    assert (poll.topics, poll.consumer, poll.max_in_flight, poll.max_bytes) == (["a", "b"], "c", 5, 2**40)
    assert (poll.timeout, poll.release_on_close, poll.heartbeat) == (timedelta(seconds=1.5), True, None)


@pytest.mark.parametrize("value", [-(2**31), -1, 5, 2**31 - 1])
def test_states_beyond_the_enum_are_refused_on_the_way_in(value: int) -> None:
    with pytest.raises(BadRequest, match=rf"^bad request: invalid state {value - 1}$") as caught:
        wire.read_task_input(task_pb2.Task(id="i", state=value))  # type: ignore[arg-type]
    assert caught.value.field == "state"
    with pytest.raises(BadRequest, match=rf"^bad request: invalid target state {value - 1}$"):
        wire.read_commit("i", task_pb2.Commit(state=value))  # type: ignore[arg-type]


@pytest.mark.parametrize("state", [99_999_999_999, -99_999_999_999, -1, 2**31 - 1])
def test_states_that_cannot_be_carried_are_refused_on_the_way_out(state: int) -> None:
    with pytest.raises(BadRequest, match=rf"^bad request: invalid state {state}$") as caught:
        wire.write_task_input(TaskInput(id="i", state=state))
    assert caught.value.field == "state"
    with pytest.raises(BadRequest, match=rf"^bad request: invalid target state {state}$"):
        wire.write_commit(Commit(state=state))


@pytest.mark.parametrize("state", [4, -2, 2**31 - 2, -(2**31)])
def test_states_that_can_be_carried_are_refused_by_the_server_with_the_same_number(state: int) -> None:
    with pytest.raises(BadRequest, match=rf"^bad request: invalid state {state}$"):
        wire.read_task_input(sent(wire.write_task_input(TaskInput(id="i", state=state))))


@pytest.mark.parametrize("field", ["id", "topic", "nonce", "producer", "consumer"])
def test_lone_surrogates_are_refused_on_the_way_out(field: str) -> None:
    with pytest.raises(BadRequest) as caught:
        wire.write_task_input(TaskInput(**{"id": "i", field: "\ud800"}))
    assert (caught.value.field, caught.value.description) == (field, "not UTF-8")


def test_page_numbers_beyond_32_bits_stay_beyond_every_bound() -> None:
    page = wire.write_page(PageRequest(limit=10**12, offset=-(10**12), token="t"))
    request = sent(task_service_pb2.ListTasksRequest(**page))
    assert wire.read_page(request) == PageRequest(limit=2**31 - 1, offset=-(2**31), token="t")


def test_a_limit_beyond_32_bits_is_refused_in_the_words_of_the_rules() -> None:
    with pytest.raises(BadRequest, match="limit: 1000000000000 is not within 0 and the maximum of 1000"):
        wire.write_claim(ClaimRequest(topic="t", limit=10**12))


@pytest.mark.parametrize(
    ("seconds", "nanos", "moment"),
    [
        (0, 0, datetime(1970, 1, 1, tzinfo=UTC)),
        (0, 1, datetime(1970, 1, 1, microsecond=1000, tzinfo=UTC)),
        (-1, 999_000_001, datetime(1970, 1, 1, tzinfo=UTC)),
        (-62_135_596_800, 0, MIN),
        (253_402_300_799, 999_000_000, MAX),
    ],
)
def test_times_are_rounded_up(seconds: int, nanos: int, moment: datetime) -> None:
    assert read_time(Timestamp(seconds=seconds, nanos=nanos), "f") == moment
    assert read_time(Timestamp(**write_time(moment)), "f") == moment


@pytest.mark.parametrize(
    ("seconds", "nanos"),
    [
        (0, -1),
        (0, 10**9),
        (-62_135_596_801, 0),
        (253_402_300_799, 999_000_001),
        (253_402_300_800, 0),
        (2**63 - 1, 0),
        (-(2**63), 0),
    ],
)
@pytest.mark.parametrize("field", ["produced", "scheduled", "consumed", "deadline"])
def test_times_out_of_range_are_refused(field: str, seconds: int, nanos: int) -> None:
    message = task_pb2.Task(id="i", **{field: Timestamp(seconds=seconds, nanos=nanos)})  # type: ignore[arg-type]
    with pytest.raises(BadRequest) as caught:
        wire.read_task_input(message)
    assert caught.value.field == field


@pytest.mark.parametrize(
    ("seconds", "nanos", "milliseconds"),
    [
        (0, 0, 0),
        (0, 1, 1),
        (0, -1, 0),
        (1, 500_000_001, 1501),
        (-1, -500_000_001, -1500),
        (315_576_000_000, 999_999_999, 315_576_000_001_000),
    ],
)
def test_durations_are_rounded_up(seconds: int, nanos: int, milliseconds: int) -> None:
    duration = read_duration(Duration(seconds=seconds, nanos=nanos), "f")
    assert duration == timedelta(milliseconds=milliseconds)
    if milliseconds < 315_576_000_000_000:
        assert read_duration(Duration(**write_duration(duration)), "f") == duration


@pytest.mark.parametrize(
    ("seconds", "nanos"),
    [(1, -1), (-1, 1), (0, 10**9), (0, -(10**9)), (315_576_000_001, 0), (-315_576_000_001, 0), (2**63 - 1, 0)],
)
def test_durations_that_are_none_are_refused(seconds: int, nanos: int) -> None:
    with pytest.raises(BadRequest) as caught:
        wire.read_task_input(task_pb2.Task(id="i", defer=Duration(seconds=seconds, nanos=nanos)))
    assert caught.value.field == "defer"
