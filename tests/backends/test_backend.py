"""The suite that every backend passes: the same answers to the same calls."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from msgspec import Raw

import ratus
from ratus.backend import Backend
from ratus.errors import (
    NonceMismatch,
    NotFound,
    TaskNotPending,
)
from ratus.model import (
    ClaimRequest,
    Commit,
    Page,
    PageRequest,
    Promise,
    Task,
    TaskInput,
    TaskState,
    Topic,
    TopicStats,
    Updated,
)

PENDING, ACTIVE, COMPLETED, ARCHIVED = (state.value for state in TaskState)
MINUTE = timedelta(minutes=1)


def now() -> datetime:
    moment = datetime.now(UTC)
    return moment.replace(microsecond=moment.microsecond // 1000 * 1000)


def new(id: str, topic: str = "t", **fields: Any) -> TaskInput:
    return TaskInput(id=id, topic=topic, **fields)


def text(payload: Raw | None) -> bytes | None:
    return None if payload is None else bytes(payload)


async def test_all_that_is_given_is_stored(backend: Backend) -> None:
    times = {
        "produced": datetime(1, 1, 1, tzinfo=UTC),
        "scheduled": now() - MINUTE,
        "consumed": now(),
        "deadline": datetime(9999, 12, 31, 23, 59, 59, 999000, tzinfo=UTC),
    }
    given = new("a/ü", state=ARCHIVED, nonce="n", producer="p", consumer="c", payload=b'{"k": [1, null]}', **times)
    assert await backend.insert_task(given) == Updated(1, 0)
    task = await backend.get_task("a/ü")
    assert task == Task(
        id="a/ü",
        topic="t",
        state=ARCHIVED,
        nonce="n",
        producer="p",
        consumer="c",
        payload=Raw(b'{"k":[1,null]}'),
        **times,
    )


async def test_defaults(backend: Backend) -> None:
    before = now()
    await backend.insert_task(new("a", payload=b"null"))
    task = await backend.get_task("a")
    assert task == Task(id="a", topic="t", state=PENDING, nonce="", produced=task.produced, scheduled=task.produced)
    assert before <= task.produced <= now()
    await backend.insert_task(new("b", defer=timedelta(hours=-1)))
    task = await backend.get_task("b")
    assert task.produced - task.scheduled == timedelta(hours=1)


@pytest.mark.parametrize("payload", [b"0", b"false", b'""', b"[]", b"9007199254740993", b'{"$ref":"a","$id":"b"}'])
async def test_payloads_pass_through(backend: Backend, payload: bytes) -> None:
    await backend.insert_task(new("a", payload=payload))
    assert text((await backend.get_task("a")).payload) == payload
    assert text((await backend.commit_task(Commit(id="a", payload=Raw(b'{"x": ' + payload + b"}")))).payload) == (
        b'{"x":' + payload + b"}"
    )


async def test_inserts_and_upserts(backend: Backend) -> None:
    assert await backend.insert_tasks([new("a", producer="1"), new("b"), new("a", producer="2")]) == Updated(2, 0, [])
    assert await backend.insert_tasks([new("b"), new("c")]) == Updated(1, 0, ["b"])
    assert (await backend.get_task("a")).producer == "1"
    assert await backend.upsert_tasks([new("c"), new("d", producer="1"), new("d", producer="2")]) == Updated(
        1, 2, ["c"]
    )
    assert (await backend.get_task("d")).producer == "2"
    assert await backend.upsert_task(new("e")) == Updated(1, 0)
    updated = await backend.upsert_task(new("e"))
    assert (updated.created, updated.updated) == (0, 1)
    assert await backend.insert_tasks([]) == Updated(0, 0, [])


async def test_deletes(backend: Backend) -> None:
    await backend.insert_tasks(
        [new(f"{topic}{state}", topic, state=state) for topic in "tuv" for state in (PENDING, ACTIVE, COMPLETED)]
    )
    assert await backend.delete_task("t0") == 1
    assert await backend.delete_task("t0") == 0
    assert await backend.delete_tasks("t", COMPLETED) == 1
    assert await backend.delete_tasks("t", PENDING) == 0
    assert await backend.delete_tasks("t") == 1
    assert await backend.delete_topic("u") == 3
    assert await backend.delete_topics() == 3


async def test_pages(backend: Backend) -> None:
    await backend.insert_tasks([new(f"{n:02}", f"t{n % 2}", state=n % 2) for n in range(25)])
    page = await backend.list_tasks("", PageRequest())
    assert [task.id for task in page.items] == [f"{n:02}" for n in range(10)]
    page = await backend.list_tasks("", PageRequest(limit=100, token=page.next_token))
    assert ([task.id for task in page.items], page.next_token) == ([f"{n:02}" for n in range(10, 25)], "")
    page = await backend.list_tasks("t0", PageRequest(limit=2, offset=3))
    assert [task.id for task in page.items] == ["06", "08"]
    assert await backend.list_topics(PageRequest(limit=2)) == Page([Topic("t0", 13), Topic("t1", 12)], "")
    assert (await backend.list_topics(PageRequest(limit=1))).next_token
    promises = await backend.list_promises("t1", PageRequest(limit=2))
    assert [promise.id for promise in promises.items] == ["01", "03"]
    promises = await backend.list_promises("", PageRequest(limit=100, token=promises.next_token))
    assert len(promises.items) == 10


async def test_topics(backend: Backend) -> None:
    overdue, later = now() - MINUTE, now() + MINUTE
    await backend.insert_tasks([new("a", scheduled=overdue), new("b", scheduled=later), new("c", state=ACTIVE)])
    assert await backend.get_topic("t") == Topic("t", 3)
    assert await backend.get_topic_stats("t") == TopicStats(
        pending=2, active=1, due=1, oldest_due=overdue, next_scheduled=later
    )
    assert await backend.get_topic_stats("none") == TopicStats()
    with pytest.raises(NotFound):
        await backend.get_topic("none")


async def test_promises(backend: Backend) -> None:
    await backend.insert_task(new("a", defer=MINUTE))
    first = await backend.insert_promise(Promise(id="a", consumer="c", timeout=MINUTE))
    assert (first.state, first.consumer) == (ACTIVE, "c")
    assert first.consumed is not None
    assert first.deadline == first.consumed + MINUTE
    with pytest.raises(TaskNotPending):
        await backend.insert_promise(Promise(id="a"))
    deadline = now() + 2 * MINUTE
    second = await backend.upsert_promise(Promise(id="a", deadline=deadline, timeout=MINUTE))
    assert second.nonce != first.nonce
    assert await backend.get_promise("a") == Promise(id="a", deadline=deadline)
    assert await backend.delete_promise("a", first.nonce) == 0
    assert await backend.delete_promise("a", second.nonce) == 1
    assert await backend.delete_promise("a") == 0
    await backend.insert_promise(Promise(id="a"))
    assert await backend.delete_promises("t") == 1
    for call in (
        backend.get_promise("a"),
        backend.insert_promise(Promise(id="none")),
        backend.upsert_promise(Promise(id="none")),
    ):
        with pytest.raises(NotFound):
            await call


async def test_claims(backend: Backend) -> None:
    await backend.insert_tasks([new(str(n), scheduled=now() - n * MINUTE) for n in range(3)])
    await backend.insert_task(new("later", defer=MINUTE))
    [task] = await backend.claim_tasks(ClaimRequest(topic="t", consumer="c", timeout=MINUTE))
    assert (task.id, task.state, task.consumer, len(task.nonce)) == ("2", ACTIVE, "c", 16)
    assert task.deadline is not None
    assert task.consumed is not None
    assert task.deadline - task.consumed == MINUTE
    assert [task.id for task in await backend.claim_tasks(ClaimRequest(topic="t", limit=10))] == ["1", "0"]
    assert await backend.claim_tasks(ClaimRequest(topic="t")) == []
    assert await backend.claim_tasks(ClaimRequest(topic="t", wait=timedelta(milliseconds=20))) == []


async def waiting(backend: Backend, number: int) -> None:
    """Return once so many consumers wait for the topic; each look asks the storage."""
    async with asyncio.timeout(10):
        while (await backend.get_topic_stats("t")).waiting_consumers != number:
            pass


async def test_a_claim_waits_for_the_first_task(backend: Backend) -> None:
    claim = asyncio.ensure_future(backend.claim_tasks(ClaimRequest(topic="t", wait=MINUTE)))
    await waiting(backend, 1)
    await backend.insert_task(new("a"))
    assert [task.id for task in await claim] == ["a"]


async def test_a_claim_that_is_cancelled_gets_no_task(backend: Backend) -> None:
    claim = asyncio.ensure_future(backend.claim_tasks(ClaimRequest(topic="t", wait=MINUTE)))
    await waiting(backend, 1)
    claim.cancel()
    with pytest.raises(asyncio.CancelledError):
        await claim
    await waiting(backend, 0)
    await backend.insert_task(new("a"))
    assert [task.id for task in await backend.claim_tasks(ClaimRequest(topic="t"))] == ["a"]


async def test_commits(backend: Backend) -> None:
    await backend.insert_task(new("a", payload=b"1"))
    [task] = await backend.claim_tasks(ClaimRequest(topic="t"))
    scheduled = now() + MINUTE
    commit = Commit(id="a", nonce=task.nonce, topic="u", state=PENDING, scheduled=scheduled, defer=MINUTE)
    task = await backend.commit_task(commit)
    assert (task.topic, task.state, task.nonce, task.scheduled, text(task.payload)) == (
        "u",
        PENDING,
        "",
        scheduled,
        b"1",
    )
    with pytest.raises(NonceMismatch):
        await backend.commit_task(commit)
    task = await backend.commit_task(Commit(id="a", payload=Raw(b"2")))
    assert (task.state, text(task.payload)) == (COMPLETED, b"2")
    with pytest.raises(NotFound):
        await backend.commit_task(Commit(id="none"))


@pytest.mark.parametrize("return_tasks", [False, True])
async def test_batches_of_commits(backend: Backend, return_tasks: bool) -> None:
    await backend.insert_tasks([new("a"), new("b")])
    outcomes = await backend.commit_tasks(
        [Commit(id="a"), Commit(id="b", nonce="stale"), Commit(id="none"), Commit(id="a", state=ARCHIVED)], return_tasks
    )
    assert [type(outcome) for outcome in outcomes[1:3]] == [NonceMismatch, NotFound]
    if return_tasks:
        assert [outcome.state for outcome in outcomes[::3] if isinstance(outcome, Task)] == [COMPLETED, ARCHIVED]
    else:
        assert outcomes[::3] == [None, None]
    assert (await backend.get_task("a")).state == ARCHIVED


async def test_facts_and_readiness(backend: Backend) -> None:
    info = await backend.get_server_info()
    assert (info.version, info.engine) == (ratus.__version__, "memory")
    assert timedelta(0) <= info.uptime < MINUTE
    assert abs(info.time - now()) < MINUTE
    await backend.check_ready()
