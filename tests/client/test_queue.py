"""Inserts, claims, and the plain calls."""

import asyncio
from datetime import timedelta
from typing import Any

import pytest

import ratus
from ratus.core.service import Service
from ratus.model import TaskInput
from tests.client.helpers import ACTIVE, COMPLETED, PENDING, soon
from tests.rpc.serving import Running


async def test_what_is_given_is_stored(queue: ratus.Queue) -> None:
    when = soon(hours=1)
    assert await queue.insert("t", {"n": 1}, id="1", scheduled=when, producer="p") == "1"
    task = await queue.get_task("1")
    assert (task.topic, task.state, task.scheduled, task.producer) == ("t", PENDING, when, "p")
    assert ratus.decode(task.payload) == {"n": 1}


@pytest.mark.parametrize("defer", ["1h", 3600, 3600.0, timedelta(hours=1)])
async def test_durations_have_three_forms(queue: ratus.Queue, defer: ratus.Duration) -> None:
    task = await queue.get_task(await queue.insert("t", defer=defer))
    assert task.scheduled - task.produced == timedelta(hours=1)
    assert task.payload is None


async def test_ids_are_made_up_in_order(queue: ratus.Queue) -> None:
    ids = [await queue.insert("t") for _ in range(3)]
    assert len(set(ids)) == 3
    assert [id[:12] for id in ids] == sorted(id[:12] for id in ids)


async def test_a_task_that_exists(queue: ratus.Queue) -> None:
    await queue.insert("t", 1, id="1")
    with pytest.raises(ratus.TaskExists):
        await queue.insert("t", 2, id="1")
    assert await queue.insert("t", 2, id="1", exist_ok=True) == "1"
    assert ratus.decode((await queue.get_task("1")).payload) == 1


async def test_an_upsert_replaces(queue: ratus.Queue) -> None:
    assert await queue.upsert("t", 1, id="1") is True
    assert await queue.upsert("u", 2, id="1") is False
    assert (await queue.get_task("1")).topic == "u"


async def test_inserts_at_once_share_messages(
    queue: ratus.Queue, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[int] = []
    insert_tasks = service.insert_tasks

    async def spy(tasks: Any) -> Any:
        sizes.append(len(tasks))
        return await insert_tasks(tasks)

    monkeypatch.setattr(service, "insert_tasks", spy)
    await asyncio.gather(*(queue.insert("t", n) for n in range(2500)))
    assert sum(sizes) == 2500
    assert len(sizes) < 10
    assert (await queue.get_topic("t")).count == 2500


async def test_large_payloads_share_no_message_that_is_too_large(queue: ratus.Queue) -> None:
    await asyncio.gather(*(queue.insert("t", "x" * 1_000_000) for _ in range(40)))
    assert (await queue.get_topic("t")).count == 40


async def test_a_bad_task_fails_no_other(queue: ratus.Queue) -> None:
    await queue.insert("t", id="there")
    outcomes = await asyncio.gather(
        queue.insert("t", id="1"),
        queue.insert("", id="2"),
        queue.insert("t", id="3"),
        queue.insert("t", "x" * 2_000_000, id="4"),
        queue.insert("t", id="there"),
        queue.insert("t", id="1"),
        return_exceptions=True,
    )
    assert [type(outcome) for outcome in outcomes] == [
        str,
        ratus.BadRequest,
        str,
        ratus.TooLarge,
        ratus.TaskExists,
        ratus.TaskExists,
    ]
    assert str(outcomes[1]) == "bad request: topic must not be empty"
    assert str(outcomes[3]).startswith("too large: task.payload of 2000002 bytes")
    assert (await queue.get_topic("t")).count == 3


async def test_values_without_json(queue: ratus.Queue) -> None:
    with pytest.raises(ratus.PayloadError):
        await queue.insert("t", object())
    with pytest.raises(ratus.BadRequest):
        await queue.insert("t", defer="5 minutes")
    with pytest.raises(ratus.BadRequest, match="time zone"):
        await queue.insert("t", scheduled=soon().replace(tzinfo=None))


async def test_a_claim_waits_and_is_committed(queue: ratus.Queue) -> None:
    claiming = asyncio.create_task(queue.claim("t", wait="10s", timeout="1m", limit=5))
    await queue.insert("t", {"n": 1}, id="1")
    [task] = await claiming
    assert (task.id, task.payload, task.state, task.consumer) == ("1", {"n": 1}, ACTIVE, "tests")
    assert timedelta(0) < task.remaining <= timedelta(minutes=1)
    await task.extend("1h")
    assert task.remaining > timedelta(minutes=59)
    await task.commit()
    await task.commit()  # a second time nothing happens
    assert task.settled
    assert (await queue.get_task("1")).state == COMPLETED
    assert await queue.claim("t") == []


async def test_claims_are_not_given_back_when_the_client_is_closed(queue: ratus.Queue, running: Running) -> None:
    await queue.insert("t", id="1")
    async with ratus.connect(running.target) as other:
        [task] = await other.claim("t")
    assert (await queue.get_task("1")).nonce == task.nonce


async def test_a_client_can_be_closed_twice(running: Running) -> None:
    queue = ratus.connect(running.target)
    await queue.insert("t")
    await queue.close()
    await queue.close()
    async with ratus.connect(running.target) as unused:
        await unused.close()


async def test_all_calls(queue: ratus.Queue) -> None:
    """Each with what it answers; the backends' own suite has the rest."""
    new = ratus.new_task("t", {"n": 1}, id="1")
    assert await queue.insert_task(new) == ratus.Updated(1, 0)
    assert await queue.insert_tasks([new, TaskInput(id="2", topic="t")]) == ratus.Updated(1, 0, ["1"])
    assert await queue.upsert_task(new) == ratus.Updated(0, 1)
    assert await queue.upsert_tasks([new]) == ratus.Updated(0, 1, ["1"])
    assert [task.id for task in (await queue.list_tasks("t", ratus.PageRequest(limit=1))).items] == ["1"]
    assert (await queue.list_topics(ratus.PageRequest())).items == [ratus.Topic("t", 2)]
    assert await queue.get_topic("t") == ratus.Topic("t", 2)
    assert (await queue.get_topic_stats("t")).pending == 2
    held = await queue.insert_promise(ratus.Promise(id="1", consumer="c"))
    with pytest.raises(ratus.TaskNotPending):
        await queue.insert_promise(ratus.Promise(id="1"))
    assert (await queue.get_promise("1")).consumer == "c"
    assert [promise.id for promise in (await queue.list_promises("t", ratus.PageRequest())).items] == ["1"]
    assert (await queue.upsert_promise(ratus.Promise(id="1"))).nonce != held.nonce
    assert await queue.delete_promise("1", held.nonce) == 0
    assert await queue.delete_promise("1") == 1
    [claimed] = await queue.claim_tasks(ratus.ClaimRequest(topic="t", request_id="r"))
    assert await queue.claim_tasks(ratus.ClaimRequest(topic="t", request_id="r")) == [claimed]
    extensions = [ratus.Extension(id=claimed.id, nonce=claimed.nonce, timeout=timedelta(hours=1))]
    assert await queue.extend_promises(extensions) == [None]
    assert (await queue.commit_task(ratus.Commit(id=claimed.id, nonce=claimed.nonce))).state == COMPLETED
    [outcome] = await queue.commit_tasks([ratus.Commit(id="1", nonce="wrong")], return_tasks=False)
    assert isinstance(outcome, ratus.NonceMismatch)
    assert await queue.delete_promises("t") == 0
    assert (await queue.get_server_info()).engine == "memory"
    assert await queue.delete_task("2") == 1
    assert await queue.delete_tasks("t", ACTIVE) == 0
    assert await queue.delete_topic("t") == 1
    assert await queue.delete_topics() == 0
    with pytest.raises(ratus.NotFound):
        await queue.get_task("1")


def test_ids_of_the_same_parts_are_the_same() -> None:
    assert ratus.task_id("fetch", {"a": 1, "b": 2}) == ratus.task_id("fetch", {"b": 2, "a": 1})
    assert ratus.task_id("fetch", "1") != ratus.task_id("fetch", 1)
    # What has been stored must be found again by versions to come.
    assert ratus.task_id("fetch", "https://example.com") == "1cf3929900982edbaf6337ff0aec8da9"
