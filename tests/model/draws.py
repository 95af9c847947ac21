"""What the machines draw from: few names and times, so that operations meet, and values that have broken things."""

from datetime import datetime, timedelta
from typing import Any, TypeVar, cast

import msgspec
from hypothesis import strategies as st
from msgspec import Raw

from ratus import times
from ratus.model import ClaimRequest, Commit, PageRequest, Task, TaskInput, raw

S = TypeVar("S", bound=msgspec.Struct)

START = times.now()  # near the clock, or else MongoDB would delete by itself what was completed long ago
MS = timedelta(milliseconds=1)
MEDIUM = 300  # bytes of a payload of which few fit where MANY are allowed
FEW_BYTES, MANY_BYTES = 700, 2**40

# The last two sort one way as UTF-8 and the other as UTF-16.
IDS = st.sampled_from(["a", "b", "c", "A", "a/b", "$a", "\uffee", "\U0001f40e"])
TOPICS = st.sampled_from(["t", "t", "t", "u", "$v", "\uffee", "\U0001f40e"])
STATES = st.sampled_from([0, 0, 0, 1, 2, 3])
NAMES = st.sampled_from(["", "", "x", "$x", "é\n"])
MOMENTS = st.integers(-3, 6).map(lambda step: START + step * 500 * MS)
NO_MOMENT = st.none() | MOMENTS
PAYLOADS: st.SearchStrategy[Raw | None] = st.none() | st.sampled_from(
    [
        *(0, -(2**63), 2**63 - 1, 1.5, 1e300, False, "", [], {}, [None], "x" * MEDIUM, "\u0000é\U0001f40e"),
        *({"$ref": "a", "$id": 1}, {"a.b": {"$set": 1}}, {"": None}, {"_id": "b", "state": 2}, {"$numberLong": "1"}),
        {"$date": "2020-01-01T00:00:00Z", "b": [1, 1.0, {"$oid": "0" * 24}]},
    ]
).map(cast(Any, raw))
PAGES = st.tuples(st.just("") | IDS, st.integers(0, 3), st.integers(1, 9))


@st.composite
def stored_tasks(draw: st.DrawFn) -> Task:
    """A task as it is stored, in any state."""
    return Task(
        id=draw(IDS),
        topic=draw(TOPICS),
        state=draw(STATES),
        nonce=draw(st.sampled_from(["", "", "given"])),
        producer=draw(NAMES),
        consumer=draw(NAMES),
        produced=draw(MOMENTS),
        scheduled=draw(MOMENTS),
        consumed=draw(NO_MOMENT),
        deadline=draw(NO_MOMENT),
        payload=draw(PAYLOADS),
    )


def due_tasks() -> st.SearchStrategy[Task]:
    """A task that is pending and due before long, in the topic that most have."""
    return st.builds(
        Task, id=IDS, topic=st.just("t"), state=st.just(0), nonce=st.just(""), produced=MOMENTS, scheduled=MOMENTS
    )


def fields(draw: Any) -> dict[str, Any]:
    """What a commit may change."""
    return {
        "state": draw(STATES),
        "topic": draw(st.sampled_from(["", "", "t", "u", "$v"])),
        "scheduled": draw(NO_MOMENT),
        "payload": draw(PAYLOADS),
    }


DURATIONS = st.integers(-2, 6).map(lambda step: step * 500 * MS)
NO_DURATION = st.none() | DURATIONS
STEPS = st.sampled_from([MS, 500 * MS, 1000 * MS, 3000 * MS, -500 * MS, timedelta(minutes=11), timedelta(hours=73)])
TEXTS = PAYLOADS.map(lambda payload: None if payload is None else msgspec.json.format(bytes(payload), indent=2))
SMALL_PAGES = st.builds(PageRequest, limit=st.integers(0, 4), offset=st.sampled_from([0, 0, 0, 1, 2]))
BAD_TOKENS = st.sampled_from(["!", "é", "a", "_w==", "YQ", " YQ==", "YQ==YQ==", "\0"])
BAD_PAGES = st.one_of(
    st.builds(PageRequest, limit=st.sampled_from([-1, 101, 2**31])),
    st.builds(PageRequest, offset=st.sampled_from([-1, 10_001])),
    st.builds(PageRequest, token=BAD_TOKENS),
)


def shifted(given: S, by: timedelta) -> S:
    """The same, so much later."""
    times = {name: getattr(given, name, None) for name in ("produced", "scheduled", "consumed", "deadline")}
    return msgspec.structs.replace(
        given, **{name: time + by for name, time in times.items() if isinstance(time, datetime)}
    )


def task_inputs() -> st.SearchStrategy[TaskInput]:
    """A task as a client gives it, whatever its state."""
    return st.builds(
        TaskInput,
        id=IDS,
        topic=TOPICS,
        state=st.none() | STATES,
        nonce=st.sampled_from(["", "", "given"]),
        producer=NAMES,
        consumer=NAMES,
        produced=NO_MOMENT,
        scheduled=NO_MOMENT,
        consumed=NO_MOMENT,
        deadline=NO_MOMENT,
        payload=TEXTS,
        defer=NO_DURATION,
    )


def bad_inputs() -> st.SearchStrategy[TaskInput]:
    """A task that is refused."""
    bad: list[dict[str, Any]] = [
        *({"id": ""}, {"topic": ""}, {"id": "a\0"}, {"topic": "t" * 1025}, {"state": 4}, {"producer": "\ud800"}),
        *(
            {"payload": b"{"},
            {"payload": b"1e400"},
            {"payload": b"[" * 101 + b"]" * 101},
            {"payload": b'{"\\u0000":1}'},
        ),
        *({"defer": timedelta(days=3_000_000)}, {"nonce": "\0"}, {"payload": b'"' + b"x" * 2**20 + b'"'}),
    ]
    return st.sampled_from([TaskInput(**{"id": "a", "topic": "t", **fields}) for fields in bad])


def claims() -> st.SearchStrategy[ClaimRequest]:
    """A claim; those with a request ID often meet one before, with the same parameters or others."""
    return st.builds(
        ClaimRequest,
        topic=TOPICS,
        consumer=st.sampled_from(["", "c"]),
        deadline=st.sampled_from([None, None, START + 1000 * MS]),
        timeout=st.sampled_from([None, timedelta(0), 700 * MS, 700 * MS, timedelta(hours=1)]),
        limit=st.integers(0, 3),
        wait=st.sampled_from([None, None, None, MS]),
        request_id=st.sampled_from(["", "r", "s"]),
    )


def commits(ids: st.SearchStrategy[tuple[str, str]]) -> st.SearchStrategy[Commit]:
    """A commit by whoever has an ID and a nonce."""
    plain = ids.map(lambda pair: Commit(id=pair[0], nonce=pair[1]))
    return plain | st.builds(
        lambda pair, **fields: Commit(id=pair[0], nonce=pair[1], **fields),
        ids,
        state=st.none() | STATES,
        topic=st.sampled_from(["", "", "t", "u"]),
        scheduled=NO_MOMENT,
        payload=TEXTS,
        defer=NO_DURATION,
    )
