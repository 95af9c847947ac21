"""Each rule of the checker, on histories that are written by hand; times are milliseconds from 0."""

from dataclasses import replace

import pytest

from ratus.model import TaskState
from tests.reliability.checker import check
from tests.reliability.history import (
    Claim,
    Commit,
    Delivery,
    Extension,
    History,
    Insert,
    Jump,
    Outcome,
    Release,
    Span,
    Stored,
)

OK, REFUSED, UNKNOWN = Outcome.OK, Outcome.REFUSED, Outcome.UNKNOWN


def insert(outcome: Outcome = OK, begin: float = 0, scheduled: int | None = None) -> Insert:
    return Insert("a", "t", '"new"', scheduled, Span(begin, begin + 5, outcome))


def handed(nonce: str, received: float, *, deadline: int = 1000, scheduled: int = 0, **claim: object) -> Delivery:
    call = Claim(f"c-{nonce}", ("t",), Span(received - 2, received, OK), **claim)  # type: ignore[arg-type]
    return Delivery("a", "t", nonce, f"c-{nonce}", scheduled, int(received) - 1, deadline, call, received)


def commit(nonce: str, begin: float, outcome: Outcome = OK, payload: str = '"done"', **more: object) -> Commit:
    return Commit("a", nonce, payload, Span(begin, begin + 5, outcome), **more)  # type: ignore[arg-type]


def stored(state: TaskState = TaskState.PENDING, payload: str = '"new"', **more: object) -> Stored:
    given: dict[str, object] = {"nonce": "", "consumer": "", "scheduled": 0, "consumed": None} | more
    return Stored(id="a", topic="t", state=state, payload=payload, **given)  # type: ignore[arg-type]


DONE = stored(TaskState.COMPLETED, '"done"')


def rules(history: History, task: Stored | None) -> set[str]:
    return {finding.rule for finding in check(history, {"a": task} if task else {})}


def completed(**more: object) -> History:
    return History(inserts=[insert()], deliveries=[handed("n", 20)], commits=[commit("n", 30)], **more)  # type: ignore[arg-type]


SOUND = {
    "pending": (History(inserts=[insert()]), stored()),
    "an unknown insert that failed": (History(inserts=[insert(UNKNOWN)]), None),
    "an unknown insert that succeeded": (History(inserts=[insert(UNKNOWN), insert(REFUSED, 9)]), stored()),
    "completed": (completed(), DONE),
    "an unknown commit that succeeded": (
        History(inserts=[insert()], deliveries=[handed("n", 20)], commits=[commit("n", 30, UNKNOWN)]),
        DONE,
    ),
    "an unknown commit that failed": (
        History(inserts=[insert()], deliveries=[handed("n", 20)], commits=[commit("n", 30, UNKNOWN)]),
        stored(TaskState.ACTIVE, nonce="n", consumer="c-n", consumed=19),
    ),
    "refused after an unknown commit": (
        History(
            inserts=[insert()],
            deliveries=[handed("n", 20)],
            commits=[commit("n", 30, UNKNOWN), commit("n", 40, REFUSED, '"again"')],
        ),
        DONE,
    ),
    "missed, and handed out again": (
        History(inserts=[insert()], deliveries=[handed("n", 20, deadline=100), handed("m", 101)]),
        stored(TaskState.ACTIVE, nonce="m", consumer="c-m", consumed=100),
    ),
    "released, and handed out again": (
        History(
            inserts=[insert()],
            deliveries=[handed("n", 20), handed("m", 40)],
            releases=[Release("a", "n", Span(30, 35, OK))],
        ),
        stored(TaskState.ACTIVE, nonce="m", consumer="c-m", consumed=39),
    ),
    "given back by a stream that ended": (
        History(inserts=[insert()], deliveries=[handed("n", 20, releases=True), handed("m", 40)]),
        stored(TaskState.ACTIVE, nonce="m", consumer="c-m", consumed=39),
    ),
    "a claim that was repeated": (
        History(inserts=[insert()], deliveries=[handed("n", 20, request="r"), handed("n", 40, request="r")]),
        stored(TaskState.ACTIVE, nonce="n", consumer="c-n", consumed=19),
    ),
    "missed when the clock jumped": (
        History(inserts=[insert()], deliveries=[handed("n", 20), handed("m", 40)], jumps=[Jump(30, 31, 5000)]),
        stored(TaskState.ACTIVE, nonce="m", consumer="c-m", consumed=5039),
    ),
    "missed by a clock that was set back since": (
        History(
            inserts=[insert()],
            deliveries=[handed("n", 20), handed("m", 40)],
            jumps=[Jump(30, 31, 5000), Jump(35, 36, 0)],
        ),
        stored(TaskState.ACTIVE, nonce="m", consumer="c-m", consumed=39),
    ),
    "due by a clock that is ahead": (
        History(
            inserts=[insert(scheduled=4000)],
            deliveries=[replace(handed("n", 40, scheduled=4000, deadline=6000), consumed=5039)],
            jumps=[Jump(30, 31, 5000)],
        ),
        stored(TaskState.ACTIVE, nonce="n", consumer="c-n", scheduled=4000, consumed=5039),
    ),
    "completed after an unknown hand-out by a clock that is ahead": (
        History(
            inserts=[insert()],
            deliveries=[
                replace(handed("m", 40, deadline=50), consumed=5010, claim=Claim("c-m", ("t",), Span(5))),
                handed("n", 20),
            ],
            commits=[commit("n", 30)],
            jumps=[Jump(-5, -4, 5000)],
        ),
        DONE,
    ),
    "a promise whose answer was lost": (
        History(inserts=[insert()], claims=[Claim("lost", ("t",), Span(10))]),
        stored(TaskState.ACTIVE, nonce="x", consumer="lost", consumed=11),
    ),
}

BROKEN = {
    "lost": (History(inserts=[insert()]), None),
    "lost when handed out": (History(inserts=[insert(UNKNOWN)], deliveries=[handed("n", 20)]), None),
    "appeared": (History(), stored()),
    "appeared for whom it was new": (History(inserts=[insert(REFUSED)]), None),
    "early by the stamps": (
        History(inserts=[insert(scheduled=50)], deliveries=[handed("n", 60, scheduled=70)]),
        stored(TaskState.ACTIVE, nonce="n", consumer="c-n", scheduled=50),
    ),
    "early for what was asked": (
        History(inserts=[insert(scheduled=50)], deliveries=[handed("n", 40)]),
        stored(TaskState.ACTIVE, nonce="n", consumer="c-n", scheduled=50),
    ),
    "handed out twice": (History(inserts=[insert()], deliveries=[handed("n", 20), handed("m", 40)]), stored()),
    "handed out twice, before the clock jumped": (
        History(inserts=[insert()], deliveries=[handed("n", 20), handed("m", 40)], jumps=[Jump(50, 51, 5000)]),
        stored(),
    ),
    "handed out twice, although the clock was set back": (
        History(
            inserts=[insert()],
            deliveries=[handed("n", 20), handed("m", 1500)],
            jumps=[Jump(30, 31, -5000)],
        ),
        stored(),
    ),
    "early by a clock that is behind": (
        History(
            inserts=[insert(scheduled=5000)],
            deliveries=[replace(handed("n", 5020, scheduled=5000), consumed=20)],
            jumps=[Jump(-9000, -8999, -5000)],
        ),
        stored(TaskState.ACTIVE, nonce="n", consumer="c-n", scheduled=5000),
    ),
    "handed out twice, since extended": (
        History(
            inserts=[insert()],
            deliveries=[handed("n", 20, deadline=100), handed("m", 150)],
            extensions=[Extension("a", "n", 500, Span(30, 35, OK))],
        ),
        stored(),
    ),
    "handed out twice with one nonce": (
        History(inserts=[insert()], deliveries=[handed("n", 20), handed("n", 40)]),
        stored(),
    ),
    "committed twice": (replace(completed(), commits=[commit("n", 30), commit("n", 40)]), DONE),
    "refused": (
        History(inserts=[insert()], deliveries=[handed("n", 20)], commits=[commit("n", 30, REFUSED)]),
        stored(),
    ),
    "undone": (replace(completed(), deliveries=[handed("n", 20), handed("m", 60)]), DONE),
    "unexplained end: undone": (completed(), stored()),
    "unexplained end: completed by nobody": (History(inserts=[insert()]), stored(TaskState.COMPLETED)),
    "unexplained end: a refused commit took effect": (
        replace(completed(), commits=[commit("n", 30), commit("n", 40, REFUSED, '"second"')]),
        stored(TaskState.COMPLETED, '"second"'),
    ),
    "unexplained end: moved": (History(inserts=[insert(scheduled=50)]), stored(scheduled=60)),
    "still held": (
        History(inserts=[insert()], deliveries=[handed("n", 20)], releases=[Release("a", "n", Span(30, 35, OK))]),
        stored(TaskState.ACTIVE, nonce="n", consumer="c-n"),
    ),
    "held by nobody": (History(inserts=[insert()]), stored(TaskState.ACTIVE, nonce="x", consumer="who", consumed=1)),
    "error": (History(inserts=[Insert("a", "t", '"new"', None, Span(0, 5, UNKNOWN, "INTERNAL"))]), None),
}


@pytest.mark.parametrize("case", SOUND)
def test_what_is_explained_is_not_found(case: str) -> None:
    assert rules(*SOUND[case]) == set()


@pytest.mark.parametrize("case", BROKEN)
def test_what_nothing_explains_is_found(case: str) -> None:
    found = rules(*BROKEN[case])
    assert any(case.startswith(rule) for rule in found), found


def test_a_history_is_cut_where_a_storage_was_copied() -> None:
    history = completed()
    known = history.until(32)
    assert [one.span for one in known.commits] == [Span(30)]
    assert [one.nonce for one in known.deliveries] == ["n"]
    assert known.inserts == history.inserts
    assert history.until(10) == History(inserts=[insert()])
