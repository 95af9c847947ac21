"""Servers that go away, answers that are lost, and what the client makes of it."""

import asyncio
import socket
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

import ratus
from ratus.core.service import Service
from tests.client.helpers import COMPLETED, PENDING, Proxy, proxy
from tests.ports import free_port, free_ports
from tests.rpc.serving import Running, run_server
from tests.server import Server


@pytest.fixture
async def behind(running: Running) -> AsyncIterator[tuple[Proxy, ratus.Queue]]:
    """A client that reaches the server through a proxy."""
    async with proxy(running.port) as (carrier, target), ratus.connect(target, patience="30s") as queue:
        yield carrier, queue


async def lose_answer(carrier: Proxy, work: Any) -> Any:
    """What a call comes to whose first answer is lost."""
    carrier.mute()
    working = asyncio.create_task(work)
    async with asyncio.timeout(30):
        await carrier.held_back.wait()
    carrier.cut()
    return await working


async def test_an_insert_whose_answer_was_lost(behind: tuple[Proxy, ratus.Queue], queue: ratus.Queue) -> None:
    carrier, client = behind
    await client.get_server_info()
    assert await lose_answer(carrier, client.insert("t", {"n": 1}, id="1")) == "1"
    assert await lose_answer(carrier, client.insert("t", {"n": 2}))
    with pytest.raises(ratus.TaskExists):  # one with other contents cannot be ours
        await lose_answer(carrier, client.insert("t", {"n": 2}, id="1"))
    assert (await queue.get_topic("t")).count == 2


async def take(client: ratus.Queue, queue: ratus.Queue, *, stream: bool) -> ratus.ActiveTask[Any]:
    """A claimed task, which is committed over the stream or by a call."""
    await queue.insert("t", {"n": 1}, id="1")
    if not stream:
        [task] = await client.claim("t", timeout="1m")
        return task
    task_or_none = await client.subscribe("t", timeout="1m").next()
    assert task_or_none is not None
    return task_or_none


KILLS = 3
STREAM = pytest.mark.parametrize("stream", [True, False], ids=["stream", "call"])


@STREAM
@pytest.mark.parametrize("how", ["complete", "move", "retry", "reschedule", "payload"])
async def test_a_commit_whose_answer_was_lost(
    behind: tuple[Proxy, ratus.Queue], queue: ratus.Queue, how: str, stream: bool
) -> None:
    carrier, client = behind
    task = await take(client, queue, stream=stream)
    match how:
        case "move":
            task.abstain().topic = "u"
        case "retry":
            task.retry("1h")
        case "reschedule":
            task.reschedule(task.scheduled.replace(year=2100))
        case "payload":
            task.payload = {"n": 2}
    await lose_answer(carrier, task.commit())
    assert task.settled
    stored = await queue.get_task("1")
    assert stored.state == (COMPLETED if how in ("complete", "payload") else PENDING)
    assert (stored.topic, stored.nonce) == ("u" if how == "move" else "t", "")


@STREAM
async def test_a_commit_that_was_not_applied_and_then_the_promise_was_lost(
    behind: tuple[Proxy, ratus.Queue], queue: ratus.Queue, service: Service, stream: bool
) -> None:
    """What looks like the repeat of a commit that was applied may be a promise that others have."""
    carrier, client = behind
    task = await take(client, queue, stream=stream)
    await queue.upsert_promise(ratus.Promise(id="1", consumer="other"))
    with pytest.raises(ratus.NonceMismatch):
        await lose_answer(carrier, task.commit())
    assert (await queue.get_task("1")).consumer == "other"


async def test_a_forced_commit_is_not_repeated(behind: tuple[Proxy, ratus.Queue], queue: ratus.Queue) -> None:
    carrier, client = behind
    task = await take(client, queue, stream=False)
    with pytest.raises(ratus.Unavailable):
        await lose_answer(carrier, task.force().commit())


async def test_an_upsert_is_not_repeated(behind: tuple[Proxy, ratus.Queue], queue: ratus.Queue) -> None:
    carrier, client = behind
    await client.get_server_info()
    with pytest.raises(ratus.Unavailable):
        await lose_answer(carrier, client.upsert("t", id="1"))


async def test_a_claim_whose_answer_was_lost(behind: tuple[Proxy, ratus.Queue], queue: ratus.Queue) -> None:
    carrier, client = behind
    await queue.insert_tasks([ratus.new_task("t", id=str(n)) for n in range(2)])
    await client.get_server_info()
    [task] = await lose_answer(carrier, client.claim("t"))
    assert task.id == "0"
    assert (await queue.get_topic_stats("t")).active == 1


async def test_a_stream_resumes_and_its_tasks_are_kept(
    behind: tuple[Proxy, ratus.Queue], queue: ratus.Queue, service: Service
) -> None:
    carrier, client = behind
    await queue.insert_tasks([ratus.new_task("t", id=str(n)) for n in range(5)])
    subscription = client.subscribe("t", concurrency=2)
    one, two = await subscription.next(), await subscription.next()
    assert one is not None
    assert two is not None
    carrier.cut()
    third = asyncio.create_task(subscription.next())
    await one.commit()
    assert (await third) is not None  # there was room for one more, and the second one still counts
    assert (await queue.get_topic_stats("t")).active == 2
    await two.commit()
    assert (await subscription.next()) is not None
    assert (await queue.get_topic_stats("t")).completed == 2


async def test_patience_ends(running: Running) -> None:
    port = free_port()
    async with ratus.connect(f"127.0.0.1:{port}", patience="300ms") as queue:
        begin = time.monotonic()
        with pytest.raises(ratus.Unavailable, match=f"cannot be reached at 127.0.0.1:{port}"):
            await queue.insert("t")
        with pytest.raises(ratus.Unavailable):
            await queue.get_task("1")
        assert time.monotonic() - begin >= 0.6


async def test_calls_wait_for_a_server(service: Service) -> None:
    port = free_port()
    async with ratus.connect(f"127.0.0.1:{port}") as queue, AsyncExitStack() as stack:
        inserting = asyncio.create_task(queue.insert("t", id="1"))
        taking = asyncio.create_task(queue.subscribe("t").next())
        done, _ = await asyncio.wait({inserting, taking}, timeout=0.2)
        assert not done
        await stack.enter_async_context(run_server(service, CollectorRegistry(), port))
        async with asyncio.timeout(30):
            assert await inserting == "1"
            task = await taking
        assert task is not None
        await task.commit()


async def test_a_client_without_a_server_is_closed_in_time() -> None:
    async with asyncio.timeout(15):
        async with ratus.connect(f"127.0.0.1:{free_port()}", patience="1h") as queue:
            inserting = asyncio.create_task(queue.insert("t", id="1"))
            reading = asyncio.create_task(queue.get_task("1"))
            taking = asyncio.create_task(queue.subscribe("t").next())
            await asyncio.wait({inserting, reading, taking}, timeout=0.1)
        for task in (inserting, reading):
            with pytest.raises(ratus.Unavailable, match="the client is closed"):
                await task
        assert await taking is None
    with pytest.raises(ratus.Unavailable, match="the client is closed"):
        await queue.get_task("1")


async def test_one_of_several_targets_is_enough(service: Service, running: Running) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        nobody = f"127.0.0.1:{unused.getsockname()[1]}"
        for _ in range(3):  # each client begins with another one
            async with ratus.connect(nobody, running.target) as queue:
                assert (await queue.get_server_info()).engine == "memory"


async def test_a_client_goes_where_a_server_is(service: Service) -> None:
    ports = free_ports(2)
    async with (
        run_server(service, CollectorRegistry(), ports[0]) as first,
        ratus.connect(*(f"127.0.0.1:{port}" for port in ports)) as queue,
    ):
        subscription = queue.subscribe("t")
        await queue.insert("t", id="1")
        task = await subscription.next()
        assert task is not None
        async with run_server(service, CollectorRegistry(), ports[1]):
            await first.server.drain(1)
            await task.commit()
            await queue.insert("t", id="2")
            task = await subscription.next()
            assert task is not None
            await task.commit()


class Ledger:
    """What a worker has begun and what it has committed, in order."""

    def __init__(self) -> None:
        self.begun: Counter[str] = Counter()
        self.committed: set[str] = set()
        self.run_again: list[str] = []

    def begin(self, id: str) -> None:
        self.begun[id] += 1
        if id in self.committed:
            self.run_again.append(id)


async def test_a_server_that_is_killed_loses_nothing_and_repeats_nothing_that_was_committed(
    tmp_path: Path,
) -> None:
    args = ["--sqlite-path", str(tmp_path / "q.db"), "--chore-interval", "100ms"]
    server = Server(tmp_path / "log", *args).start()
    ledger = Ledger()
    inserted: set[str] = set()
    progress = asyncio.Event()
    try:
        async with ratus.connect(server.target, patience="60s") as queue:

            async def produce(number: int) -> None:
                for n in range(400):
                    inserted.add(await queue.insert("t", {"n": n}, id=f"{number}-{n}"))

            async def consume(subscription: ratus.Subscription[Any]) -> None:
                async for task in subscription:
                    ledger.begin(task.id)
                    try:
                        await task.commit()
                    except ratus.NonceMismatch:
                        continue  # the server was away for longer than the timeout: the task comes again
                    ledger.committed.add(task.id)
                    progress.set()

            # The promises of what a dead server has sent in vain end soon.
            subscription = queue.subscribe("t", concurrency=20, timeout="2s")
            producers = [asyncio.create_task(produce(number)) for number in range(5)]
            consumers = [asyncio.create_task(consume(subscription)) for _ in range(20)]
            for _ in range(KILLS):
                before = len(ledger.committed)
                while len(ledger.committed) < before + 100:
                    progress.clear()
                    await asyncio.wait_for(progress.wait(), 60)
                server.kill()
                await asyncio.to_thread(server.start)
            await asyncio.gather(*producers)

            async with asyncio.timeout(60):
                while len(ledger.committed) < 2000:
                    progress.clear()
                    await progress.wait()
            subscription.stop()
            await asyncio.gather(*consumers)
            stats = await queue.get_topic_stats("t")
        assert len(inserted) == 2000
        assert (stats.completed, stats.pending, stats.active) == (2000, 0, 0)
        assert ledger.run_again == []
        assert ledger.begun.keys() == inserted
    finally:
        server.kill()
