"""Poll: due and scheduled tasks in order, windows, and streams that end in the middle."""

import asyncio
from typing import Any

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration

from ratus.rpc.promise_service import PromiseServicer
from ratus.v1 import promise_service_pb2 as promises
from ratus.v1 import task_service_pb2 as tasks
from ratus.v1 import topic_service_pb2 as topics
from ratus.v1.task_pb2 import Commit, Task
from tests.rpc.serving import Client, Running, at, insert, waiting


class Stream:
    """A client's end of a Poll."""

    def __init__(self, client: Any, seconds: float | None = None, **request: Any) -> None:
        self.call = client.promises.Poll(promises.PollRequest(**{"topics": ["t"], **request}), timeout=seconds)

    async def take(self, number: int) -> list[Task]:
        """The next tasks, however they are put into messages."""
        taken: list[Task] = []
        async with asyncio.timeout(30):
            while len(taken) < number:
                message = await self.call.read()
                assert message is not grpc.aio.EOF
                taken += message.tasks
        assert len(taken) == number
        return taken

    async def silent(self, seconds: float = 0.2) -> None:
        """Nothing may come for a while; the stream cannot be read after this."""
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(seconds):
                await self.call.read()


async def commit(client: Any, task: Task) -> None:
    await client.tasks.CommitTask(tasks.CommitTaskRequest(id=task.id, commit=Commit(nonce=task.nonce)))


async def stats(client: Any) -> Any:
    return await client.topics.GetTopicStats(topics.GetTopicStatsRequest(topic="t"))


async def settled(client: Any, **counts: int) -> None:
    """Return once the counts of the topic are these; each look is a round trip."""
    async with asyncio.timeout(30):
        while True:
            now = await stats(client)
            if all(getattr(now, name) == count for name, count in counts.items()):
                return


async def test_due_tasks_come_in_the_order_of_their_times(client: Any) -> None:
    await insert(client, *(Task(id=str(n), topic="t", scheduled=at(minutes=-n)) for n in range(5)))
    stream = Stream(client, max_in_flight=10, consumer="c", timeout=Duration(seconds=60))
    taken = await stream.take(5)
    assert [task.id for task in taken] == ["4", "3", "2", "1", "0"]
    assert {task.consumer for task in taken} == {"c"}
    assert taken[0].deadline.ToMilliseconds() - taken[0].consumed.ToMilliseconds() == 60_000
    await insert(client, Task(id="new", topic="t"))
    assert [task.id for task in await stream.take(1)] == ["new"]


async def test_scheduled_tasks_come_when_they_are_due_and_not_before(client: Any) -> None:
    soon, sooner = at(milliseconds=300), at(milliseconds=200)
    await insert(client, Task(id="soon", topic="t", scheduled=soon), Task(id="sooner", topic="t", scheduled=sooner))
    stream = Stream(client, max_in_flight=10)
    taken = await stream.take(2)
    assert [task.id for task in taken] == ["sooner", "soon"]
    assert all(task.consumed.ToMilliseconds() >= task.scheduled.ToMilliseconds() for task in taken)


async def test_several_topics_and_only_those(client: Any) -> None:
    await insert(client, *(Task(id=topic, topic=topic) for topic in "tuv"))
    stream = Stream(client, topics=["t", "v"], max_in_flight=10)
    assert {task.id for task in await stream.take(2)} == {"t", "v"}
    await stream.silent()


async def test_a_window_of_one_opens_with_a_commit_through_a_unary_call(client: Any) -> None:
    await insert(client, *(Task(id=str(n), topic="t", scheduled=at(minutes=-9 + n)) for n in range(3)))
    stream = Stream(client)
    for n in range(3):
        [task] = await stream.take(1)
        assert task.id == str(n)
        assert (await stats(client)).active == 1
        await commit(client, task)
    await stream.silent()


async def test_a_window_holds_no_more_than_it_says(client: Any) -> None:
    await insert(client, *(Task(id=f"{n:02}", topic="t") for n in range(10)))
    stream = Stream(client, max_in_flight=4)
    held = await stream.take(4)
    assert (await stats(client)).active == 4
    results = await client.tasks.CommitTasks(
        tasks.CommitTasksRequest(
            commits=[tasks.CommitTaskRequest(id=task.id, commit=Commit(nonce=task.nonce)) for task in held[:2]]
        )
    )
    assert [result.status.code for result in results.results] == [0, 0]
    held = [*held[2:], *await stream.take(2)]
    await client.tasks.DeleteTask(tasks.DeleteTaskRequest(id=held[0].id))
    await client.promises.DeletePromise(promises.DeletePromiseRequest(id=held[1].id))
    held = [*held[2:], *await stream.take(2)]
    assert (await stats(client)).active == 4
    await stream.silent()


async def test_max_bytes_is_honoured_and_one_task_always_passes(client: Any) -> None:
    await insert(client, *(Task(id=str(n), topic="t", payload=b'"' + b"x" * 1000 + b'"') for n in range(3)))
    stream = Stream(client, max_in_flight=10, max_bytes=10)
    for _ in range(3):
        [task] = await stream.take(1)
        assert (await stats(client)).active == 1
        await commit(client, task)


async def test_a_missed_deadline_opens_the_window(client: Any) -> None:
    await insert(client, Task(id="a", topic="t"), Task(id="b", topic="t"))
    stream = Stream(client, timeout=Duration(nanos=200_000_000))
    assert [task.id for task in await stream.take(2)] == ["a", "b"]


async def test_streams_share_a_topic_and_no_task_goes_to_two(client: Any) -> None:
    streams = [Stream(client, max_in_flight=50) for _ in range(4)]
    await waiting(client, "t", 4)
    await insert(client, *(Task(id=str(n), topic="t") for n in range(200)))
    taken = await asyncio.gather(*(stream.take(50) for stream in streams))
    assert len({task.id for tasks in taken for task in tasks}) == 200


@pytest.mark.parametrize("how", ["cancel", "deadline", "channel"])
async def test_a_stream_that_ends_while_it_waits_leaves_nothing(running: Running, client: Any, how: str) -> None:
    async with Client(running.target) as other:
        stream = Stream(other, seconds=0.2 if how == "deadline" else None)
        if how != "deadline":
            await waiting(client, "t", 1)
        if how == "cancel":
            stream.call.cancel()
        elif how == "deadline":
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await stream.call.read()
            assert caught.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED
        else:
            await other.channel.close()
        await waiting(client, "t", 0)
    await insert(client, Task(id="a", topic="t"))
    assert (await stats(client)).active == 0
    claimed = await client.promises.ClaimTasks(promises.ClaimTasksRequest(topic="t"))
    assert [task.id for task in claimed.tasks] == ["a"]


@pytest.mark.parametrize("release_on_close", [False, True])
async def test_what_a_cancelled_stream_holds(client: Any, release_on_close: bool) -> None:
    await insert(client, *(Task(id=str(n), topic="t") for n in range(3)))
    stream = Stream(client, max_in_flight=3, release_on_close=release_on_close)
    held = await stream.take(3)
    await commit(client, held[0])
    stream.call.cancel()
    if release_on_close:
        await settled(client, pending=2, active=0, completed=1)
    else:
        for task in held[1:]:  # the client may still be at work
            await commit(client, task)
        assert (await stats(client)).completed == 3


class GoesAway:
    """A call whose client goes away as soon as it has read a message, which the server learns in the same moment."""

    def __init__(self) -> None:
        self.sent: list[promises.PollResponse] = []

    async def write(self, message: promises.PollResponse) -> None:
        self.sent.append(message)
        writer, written = asyncio.current_task(), asyncio.get_running_loop().create_future()
        assert writer is not None
        asyncio.get_running_loop().call_soon(lambda: (written.set_result(None), writer.cancel()))
        await written


async def test_what_has_arrived_stays_with_a_client_that_goes_away_at_once(running: Running, client: Any) -> None:
    await insert(client, Task(id="1", topic="t"))
    call: Any = GoesAway()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.create_task(PromiseServicer(running.service).Poll(promises.PollRequest(topics=["t"]), call))
    assert [task.id for message in call.sent for task in message.tasks] == ["1"]
    again = promises.ClaimTasksRequest(topic="t", wait=Duration(nanos=300_000_000))
    assert not (await client.promises.ClaimTasks(again)).tasks


async def test_a_client_that_does_not_read_stops_the_flow_and_what_was_not_sent_is_released(client: Any) -> None:
    payload = b'"' + b"x" * 500_000 + b'"'
    for n in range(40):
        await insert(client, Task(id=f"{n:02}", topic="t", payload=payload))
    stream = Stream(client, max_in_flight=10_000, consumer="slow")
    first = await stream.call.read()
    seen = {task.id for task in first.tasks}
    stream.call.cancel()
    await waiting(client, "t", 0)
    # What was handed to the transport may have been received; all the rest must be pending again.
    async with asyncio.timeout(30):
        while True:
            before, after = await stats(client), await stats(client)
            if before == after and after.pending + after.active == 40:
                break
    assert len(seen) <= after.active < 40
    assert after.pending > 0


async def test_cancelling_in_the_middle_of_a_flood_loses_and_doubles_nothing(client: Any) -> None:
    await insert(client, *(Task(id=f"{n:04}", topic="t") for n in range(2_000)))
    committed: list[str] = []
    for _ in range(10):
        stream = Stream(client, max_in_flight=100, release_on_close=True)
        for task in await _some(stream, 50):
            await commit(client, task)
            committed.append(task.id)
        stream.call.cancel()
    await settled(client, active=0)
    now = await stats(client)
    assert (now.completed, now.pending) == (len(committed), 2_000 - len(committed))
    assert len(set(committed)) == len(committed)


async def _some(stream: Stream, number: int) -> list[Task]:
    taken: list[Task] = []
    while len(taken) < number:
        taken += (await stream.call.read()).tasks
    return taken


async def test_draining_ends_a_stream_and_leaves_what_it_holds(running: Running, client: Any) -> None:
    await insert(client, Task(id="a", topic="t"), Task(id="b", topic="t"))
    stream = Stream(client, release_on_close=True)
    [task] = await stream.take(1)
    running.service.drain()
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stream.call.read()
    assert caught.value.code() == grpc.StatusCode.UNAVAILABLE
    await commit(client, task)
    assert (await stats(client)).pending == 1
