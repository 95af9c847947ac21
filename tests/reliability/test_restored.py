"""A copy is explained by what came before it, and what is wrong with one is found; times are milliseconds from 0."""

from pathlib import Path

import pytest

from ratus.model import TaskState
from ratus.v1 import task_service_pb2 as tasks_pb
from ratus.v1.task_pb2 import Task
from tests.reliability.history import Claim, Commit, Delivery, History, Insert, Outcome, Span, Stored
from tests.reliability.kills import new_server
from tests.reliability.load import TOPIC
from tests.reliability.restored import go_on, judge_copy
from tests.reliability.storage import read_sqlite
from tests.rpc.serving import Client

BEGIN, END = 100.0, 200.0


def insert(id: str, begin: float, outcome: Outcome = Outcome.OK) -> Insert:
    return Insert(id, TOPIC, f'"{id}"', None, Span(begin, begin + 10, outcome))


def handed(id: str, received: float) -> Delivery:
    claim = Claim("c", (TOPIC,), Span(received - 5, received, Outcome.OK))
    return Delivery(id, TOPIC, f"n-{id}", "c", 0, int(received) - 2, 10_000, claim, received)


def commit(id: str, begin: float) -> Commit:
    return Commit(id, f"n-{id}", f'"done-{id}"', Span(begin, begin + 10, Outcome.OK))


def pending(id: str) -> Stored:
    return Stored(id, TOPIC, TaskState.PENDING, "", "", 0, None, f'"{id}"')


def active(id: str, consumed: int, nonce: str = "") -> Stored:
    return Stored(id, TOPIC, TaskState.ACTIVE, nonce or f"n-{id}", "c", 0, consumed, f'"{id}"')


def done(id: str) -> Stored:
    return Stored(id, TOPIC, TaskState.COMPLETED, "", "c", 0, 38, f'"done-{id}"')


BEFORE, DURING, AFTER = insert("before", 10), insert("during", 150), insert("after", 210)
CLAIMED_DURING = History(inserts=[BEFORE], claims=[handed("before", 150).claim], deliveries=[handed("before", 150)])
STREAM = Claim("c", (TOPIC,), Span(5))
CLAIMED_AFTER = History(
    inserts=[BEFORE],
    claims=[handed("before", 250).claim, STREAM],
    deliveries=[handed("before", 250)],
)
COMPLETED = History(inserts=[BEFORE], deliveries=[handed("before", 40)], commits=[commit("before", 50)])
COMPLETED_DURING = History(inserts=[BEFORE], deliveries=[handed("before", 40)], commits=[commit("before", 150)])

SOUND = {
    "what was acknowledged": (History(inserts=[BEFORE, AFTER]), [pending("before")]),
    "what came meanwhile, with it": (History(inserts=[BEFORE, DURING]), [pending("before"), pending("during")]),
    "what came meanwhile, without it": (History(inserts=[BEFORE, DURING]), [pending("before")]),
    "a promise made meanwhile": (CLAIMED_DURING, [active("before", 148)]),
    "no promise yet": (CLAIMED_DURING, [pending("before")]),
    "before a claim": (CLAIMED_AFTER, [pending("before")]),
    "completed": (COMPLETED, [done("before")]),
    "completed meanwhile": (COMPLETED_DURING, [done("before")]),
    "not completed yet": (COMPLETED_DURING, [active("before", 38)]),
}

BROKEN = {
    "lost": (History(inserts=[BEFORE]), []),
    "appeared: it was inserted later": (History(inserts=[BEFORE, AFTER]), [pending("before"), pending("after")]),
    "later: a claim after the copy": (CLAIMED_AFTER, [active("before", 248)]),
    "crossed: a promise of another task": (
        History(inserts=[BEFORE, insert("b", 20)], claims=[STREAM], deliveries=[handed("before", 40)]),
        [active("b", 38, "n-before"), active("before", 38)],
    ),
    "unexplained end: an acknowledged commit is not in it": (COMPLETED, [active("before", 38)]),
    "moments: of inserts": (History(inserts=[insert("a", 110), insert("b", 150)]), [pending("b")]),
    "moments: of a commit": (
        History(inserts=[BEFORE, DURING], deliveries=[handed("before", 40)], commits=[commit("before", 120)]),
        [active("before", 38), pending("during")],
    ),
}


@pytest.mark.parametrize("case", SOUND)
def test_a_copy_that_is_explained(case: str) -> None:
    history, tasks = SOUND[case]
    assert judge_copy(history, {task.id: task for task in tasks}, BEGIN, END, one_moment=True) == []


@pytest.mark.parametrize("case", BROKEN)
def test_a_copy_that_is_not(case: str) -> None:
    history, tasks = BROKEN[case]
    found = judge_copy(history, {task.id: task for task in tasks}, BEGIN, END, one_moment=True)
    assert case.partition(":")[0] in {one.rule for one in found}


async def test_what_a_server_on_a_copy_loses_is_found(tmp_path: Path) -> None:
    path = tmp_path / "q.db"
    server = new_server(tmp_path, "--sqlite-path", str(path))
    with server:
        async with Client(server.target) as client:
            tasks = [Task(id=f"{number}", topic=TOPIC, payload=b"1") for number in range(20)]
            await client.tasks.InsertTasks(tasks_pb.InsertTasksRequest(tasks=tasks))
    before = await read_sqlite(path)

    async def all_but_one() -> dict[str, Stored]:
        return {id: task for id, task in (await read_sqlite(path)).items() if id != "7"}

    history, found = await go_on(server, before, all_but_one)
    assert len(history.commits) == 20
    assert {(one.rule, one.id) for one in found} == {("lost", "7"), ("restored", "")}
