"""Every RPC, against a real port."""

import asyncio
from typing import Any

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration

import ratus
from ratus.v1 import promise_service_pb2 as promises
from ratus.v1 import server_service_pb2 as server
from ratus.v1 import task_service_pb2 as tasks
from ratus.v1 import topic_service_pb2 as topics
from ratus.v1.promise_pb2 import Promise
from ratus.v1.task_pb2 import (
    TASK_STATE_ACTIVE,
    TASK_STATE_ARCHIVED,
    TASK_STATE_COMPLETED,
    TASK_STATE_PENDING,
    Commit,
    Task,
)
from tests.rpc.serving import at, insert, waiting


async def test_insert_and_get_a_task_with_all_that_is_given(client: Any) -> None:
    given = Task(
        id="a/ü",
        topic="t",
        state=TASK_STATE_ARCHIVED,
        nonce="mine",
        producer="p",
        consumer="c",
        produced=at(hours=-3),
        scheduled=at(hours=-2),
        consumed=at(hours=-1),
        deadline=at(hours=1),
        payload=b'{"a": [1, true]}',
    )
    done = await client.tasks.InsertTask(tasks.InsertTaskRequest(task=given))
    assert (done.created, done.updated) == (1, 0)
    task = (await client.tasks.GetTask(tasks.GetTaskRequest(id="a/ü"))).task
    given.payload = b'{"a":[1,true]}'
    assert task == given


async def test_insert_sets_defaults_and_defer(client: Any) -> None:
    await client.tasks.InsertTask(
        tasks.InsertTaskRequest(task=Task(id="a", topic="t", payload=b"null", defer=Duration(seconds=3600)))
    )
    task = (await client.tasks.GetTask(tasks.GetTaskRequest(id="a"))).task
    assert task.state == TASK_STATE_PENDING
    assert task.scheduled.ToMilliseconds() - task.produced.ToMilliseconds() == 3_600_000
    assert not task.HasField("consumed")
    assert not task.HasField("deadline")
    assert not task.HasField("defer")
    assert task.payload == b""


async def test_batches_of_inserts_and_upserts(client: Any) -> None:
    a, b = Task(id="a", topic="t", producer="1"), Task(id="b", topic="t")
    done = await client.tasks.InsertTasks(tasks.InsertTasksRequest(tasks=[a, b, Task(id="a", topic="t", producer="2")]))
    assert (done.created, done.updated, list(done.existing_ids)) == (2, 0, [])
    done = await client.tasks.InsertTasks(tasks.InsertTasksRequest(tasks=[b, Task(id="c", topic="t")]))
    assert (done.created, done.updated, list(done.existing_ids)) == (1, 0, ["b"])
    done = await client.tasks.UpsertTasks(
        tasks.UpsertTasksRequest(tasks=[Task(id="c", topic="t", producer="3"), Task(id="d", topic="t")])
    )
    assert (done.created, done.updated, list(done.existing_ids)) == (1, 1, ["c"])
    done = await client.tasks.UpsertTask(tasks.UpsertTaskRequest(task=Task(id="e", topic="t")))
    assert (done.created, done.updated) == (1, 0)
    done = await client.tasks.UpsertTask(tasks.UpsertTaskRequest(task=Task(id="e", topic="t", producer="4")))
    assert (done.created, done.updated) == (0, 1)
    listed = await client.tasks.ListTasks(tasks.ListTasksRequest(topic="t"))
    assert [(task.id, task.producer) for task in listed.tasks] == [
        ("a", "1"),
        ("b", ""),
        ("c", "3"),
        ("d", ""),
        ("e", "4"),
    ]


async def test_lists_come_in_pages(client: Any) -> None:
    await insert(client, *(Task(id=f"{n:02}", topic=f"t{n % 3}") for n in range(25)))
    seen, token = [], ""
    while True:
        page = await client.tasks.ListTasks(tasks.ListTasksRequest(page_size=10, page_token=token))
        seen += [task.id for task in page.tasks]
        token = page.next_page_token
        if not token:
            break
    assert seen == [f"{n:02}" for n in range(25)]
    page = await client.tasks.ListTasks(tasks.ListTasksRequest(skip=20))
    assert [task.id for task in page.tasks] == ["20", "21", "22", "23", "24"]
    page = await client.topics.ListTopics(topics.ListTopicsRequest(page_size=2))
    assert [(topic.name, topic.count) for topic in page.topics] == [("t0", 9), ("t1", 8)]
    page = await client.topics.ListTopics(topics.ListTopicsRequest(page_size=2, page_token=page.next_page_token))
    assert [(topic.name, topic.count) for topic in page.topics] == [("t2", 8)]
    await client.promises.ClaimTasks(promises.ClaimTasksRequest(topic="t1", limit=3, consumer="c"))
    page = await client.promises.ListPromises(promises.ListPromisesRequest(topic="t1", page_size=2))
    assert [(promise.id, promise.consumer) for promise in page.promises] == [("01", "c"), ("04", "c")]
    page = await client.promises.ListPromises(promises.ListPromisesRequest(page_token=page.next_page_token))
    assert [promise.id for promise in page.promises] == ["07"]


async def test_deletes(client: Any) -> None:
    await insert(
        client,
        *(Task(id=f"{topic}{n}", topic=topic, state=1 + n) for topic in "tuv" for n in range(4)),  # type: ignore[arg-type]
    )
    assert (await client.tasks.DeleteTask(tasks.DeleteTaskRequest(id="t0"))).deleted == 1
    assert (await client.tasks.DeleteTask(tasks.DeleteTaskRequest(id="t0"))).deleted == 0
    request = tasks.DeleteTasksRequest(topic="t", state=TASK_STATE_COMPLETED)
    assert (await client.tasks.DeleteTasks(request)).deleted == 1
    assert (await client.tasks.DeleteTasks(tasks.DeleteTasksRequest(topic="t"))).deleted == 2
    assert (await client.topics.DeleteTopic(topics.DeleteTopicRequest(topic="u"))).deleted == 4
    assert (await client.topics.DeleteTopics(topics.DeleteTopicsRequest())).deleted == 4


async def test_topics(client: Any) -> None:
    overdue, later = at(minutes=-5), at(minutes=5)
    await insert(
        client,
        Task(id="a", topic="t", scheduled=overdue),
        Task(id="b", topic="t", scheduled=later),
        Task(id="c", topic="t", state=TASK_STATE_ACTIVE),
        Task(id="d", topic="t", state=TASK_STATE_COMPLETED),
        Task(id="e", topic="t", state=TASK_STATE_ARCHIVED),
    )
    topic = (await client.topics.GetTopic(topics.GetTopicRequest(topic="t"))).topic
    assert (topic.name, topic.count) == ("t", 5)
    stats = await client.topics.GetTopicStats(topics.GetTopicStatsRequest(topic="t"))
    assert stats == topics.GetTopicStatsResponse(
        pending=2, active=1, completed=1, archived=1, due=1, oldest_due=overdue, next_scheduled=later
    )
    stats = await client.topics.GetTopicStats(topics.GetTopicStatsRequest(topic="none"))
    assert stats == topics.GetTopicStatsResponse()


async def test_promises(client: Any) -> None:
    await insert(client, Task(id="a", topic="t", defer=Duration(seconds=3600)))
    deadline = at(hours=2)
    request = promises.InsertPromiseRequest(promise=Promise(id="a", consumer="c", deadline=deadline))
    first = (await client.promises.InsertPromise(request)).task
    assert (first.state, first.consumer, first.deadline) == (TASK_STATE_ACTIVE, "c", deadline)
    assert len(first.nonce) == 16
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await client.promises.InsertPromise(request)
    assert caught.value.code() == grpc.StatusCode.FAILED_PRECONDITION
    second = (
        await client.promises.UpsertPromise(
            promises.UpsertPromiseRequest(promise=Promise(id="a", timeout=Duration(seconds=60)))
        )
    ).task
    assert second.nonce != first.nonce
    assert second.deadline.ToMilliseconds() - second.consumed.ToMilliseconds() == 60_000
    promise = (await client.promises.GetPromise(promises.GetPromiseRequest(id="a"))).promise
    assert promise == Promise(id="a", deadline=second.deadline)
    request = promises.DeletePromiseRequest(id="a", nonce=first.nonce)
    assert (await client.promises.DeletePromise(request)).deleted == 0
    request = promises.DeletePromiseRequest(id="a", nonce=second.nonce)
    assert (await client.promises.DeletePromise(request)).deleted == 1
    await client.promises.InsertPromise(promises.InsertPromiseRequest(promise=Promise(id="a")))
    assert (await client.promises.DeletePromises(promises.DeletePromisesRequest(topic="t"))).deleted == 1
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await client.promises.GetPromise(promises.GetPromiseRequest(id="a"))
    assert caught.value.code() == grpc.StatusCode.NOT_FOUND


async def test_claim_and_commit(client: Any) -> None:
    await insert(client, *(Task(id=str(n), topic="t", scheduled=at(minutes=-n)) for n in range(5)))
    claimed = await client.promises.ClaimTasks(promises.ClaimTasksRequest(topic="t", consumer="c"))
    assert [task.id for task in claimed.tasks] == ["4"]
    [task] = claimed.tasks
    commit = Commit(
        nonce=task.nonce, topic="u", state=TASK_STATE_PENDING, payload=b"[ 1 ]", defer=Duration(seconds=-60)
    )
    after = (await client.tasks.CommitTask(tasks.CommitTaskRequest(id="4", commit=commit))).task
    assert (after.topic, after.state, after.nonce, after.payload) == ("u", TASK_STATE_PENDING, "", b"[1]")
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await client.tasks.CommitTask(tasks.CommitTaskRequest(id="4", commit=commit))
    assert caught.value.code() == grpc.StatusCode.ABORTED
    claimed = await client.promises.ClaimTasks(promises.ClaimTasksRequest(topic="t", limit=1000))
    assert [task.id for task in claimed.tasks] == ["3", "2", "1", "0"]
    assert not (await client.promises.ClaimTasks(promises.ClaimTasksRequest(topic="t"))).tasks


@pytest.mark.parametrize("return_tasks", [False, True])
async def test_commits_in_a_batch_have_their_own_outcomes(client: Any, return_tasks: bool) -> None:
    await insert(client, Task(id="a", topic="t"), Task(id="b", topic="t"))
    request = tasks.CommitTasksRequest(
        commits=[
            tasks.CommitTaskRequest(id="a"),
            tasks.CommitTaskRequest(id="b", commit=Commit(nonce="stale")),
            tasks.CommitTaskRequest(id="none"),
        ],
        return_tasks=return_tasks,
    )
    results = (await client.tasks.CommitTasks(request)).results
    codes = [grpc.StatusCode.OK, grpc.StatusCode.ABORTED, grpc.StatusCode.NOT_FOUND]
    assert [result.status.code for result in results] == [code.value[0] for code in codes]
    assert results[1].status.message == "conflict: the task may have been modified by others"
    assert [result.HasField("task") for result in results] == [return_tasks, False, False]
    if return_tasks:
        assert (results[0].task.id, results[0].task.state) == ("a", TASK_STATE_COMPLETED)


async def test_answers_fit_into_what_clients_read_by_default(client: Any) -> None:
    payload = b'"' + b"x" * 700_000 + b'"'
    for n in range(8):
        await insert(client, Task(id=str(n), topic="t", payload=payload))
    page = await client.tasks.ListTasks(tasks.ListTasksRequest(topic="t"))
    assert 0 < len(page.tasks) < 8
    assert page.next_page_token
    claimed = await client.promises.ClaimTasks(promises.ClaimTasksRequest(topic="t", limit=8))
    assert 0 < len(claimed.tasks) < 8
    request = tasks.CommitTasksRequest(commits=[tasks.CommitTaskRequest(id=str(n)) for n in range(8)])
    request.return_tasks = True
    request.commits.extend(tasks.CommitTaskRequest(id="none" * 100) for _ in range(5_000))
    results = (await client.tasks.CommitTasks(request)).results
    assert len(results) == 5_008
    with_task = [result.HasField("task") for result in results[:8]]
    assert with_task == sorted(with_task, reverse=True)
    assert 0 < sum(with_task) < 8
    listed = await client.tasks.ListTasks(tasks.ListTasksRequest(topic="t", page_size=1))
    assert listed.tasks[0].state == TASK_STATE_COMPLETED


async def test_a_claim_waits_for_the_first_task(client: Any) -> None:
    call = asyncio.ensure_future(
        client.promises.ClaimTasks(promises.ClaimTasksRequest(topic="t", limit=10, wait=Duration(seconds=60)))
    )
    await waiting(client, "t", 1)
    await insert(client, Task(id="a", topic="t"))
    assert [task.id for task in (await call).tasks] == ["a"]


async def test_a_claim_that_waits_in_vain_is_no_error(client: Any) -> None:
    request = promises.ClaimTasksRequest(topic="t", wait=Duration(nanos=50_000_000))
    assert not (await client.promises.ClaimTasks(request)).tasks


@pytest.mark.parametrize("how", ["cancel", "deadline"])
async def test_a_client_that_goes_away_while_its_claim_waits_gets_no_task(client: Any, how: str) -> None:
    request = promises.ClaimTasksRequest(topic="t", wait=Duration(seconds=60))
    call = client.promises.ClaimTasks(request, timeout=0.2 if how == "deadline" else None)
    if how == "cancel":
        await waiting(client, "t", 1)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
    else:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call
        assert caught.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED
    await waiting(client, "t", 0)
    await insert(client, Task(id="a", topic="t"))
    claimed = await client.promises.ClaimTasks(promises.ClaimTasksRequest(topic="t"))
    assert [task.id for task in claimed.tasks] == ["a"]


async def test_server_info(client: Any) -> None:
    before = at().ToMilliseconds()
    info = await client.server.GetServerInfo(server.GetServerInfoRequest())
    assert (info.version, info.engine) == (ratus.__version__, "memory")
    assert before <= info.time.ToMilliseconds() <= at().ToMilliseconds()
    later = await client.server.GetServerInfo(server.GetServerInfoRequest())
    assert 0 <= info.uptime.ToMilliseconds() <= later.uptime.ToMilliseconds()
