"""What the machines draw from: few names and times, so that operations meet, and values that have broken things."""

from datetime import timedelta
from typing import Any, cast

from hypothesis import strategies as st
from msgspec import Raw

from ratus import times
from ratus.model import Task, raw

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
