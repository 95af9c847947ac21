"""The synchronous client: the same calls and the same workflow without `async`."""

import inspect
import itertools
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

import ratus
from ratus.rpc.remote_calls import RemoteCalls
from tests.client.helpers import ACTIVE, ARCHIVED, COMPLETED, PENDING
from tests.server import Server

SECONDS = 30


@pytest.fixture
def queue(server: Server) -> Iterator[ratus.SyncQueue]:
    with ratus.connect_sync(server.target, consumer="tests") as queue:
        yield queue


def public(cls: type) -> set[str]:
    return {name for name, _ in inspect.getmembers(cls, callable) if not name.startswith("_")}


def test_both_clients_have_the_same_methods_and_words() -> None:
    assert public(RemoteCalls) < public(ratus.Queue)
    assert public(ratus.SyncQueue) == public(ratus.Queue)
    assert public(ratus.SyncSubscription) == public(ratus.Subscription)
    assert public(ratus.SyncActiveTask) == public(ratus.ActiveTask) - {"wait_lost"}
    for name in public(ratus.Queue):
        ours, theirs = getattr(ratus.SyncQueue, name), getattr(ratus.Queue, name)
        assert inspect.signature(ours).parameters.keys() == inspect.signature(theirs).parameters.keys(), name
        assert inspect.getdoc(ours), name
    assert inspect.signature(ratus.connect_sync).parameters == inspect.signature(ratus.connect).parameters


def test_the_workflow(queue: ratus.SyncQueue) -> None:
    queue.insert("fetch", id="example.com", payload={"url": "https://example.com"}, defer="50ms")
    for task in queue.subscribe("fetch", concurrency=20, timeout="30s"):
        with task:
            assert (task.id, task.state, task.consumer) == ("example.com", ACTIVE, "tests")
            assert task.payload["url"] == "https://example.com"
            task.topic = "parse"
        break
    stored = queue.get_task("example.com")
    assert (stored.topic, stored.state) == ("parse", COMPLETED)


def test_calls_and_errors(queue: ratus.SyncQueue) -> None:
    queue.insert("t", {"n": 1}, id="1")
    with pytest.raises(ratus.TaskExists):
        queue.insert("t", id="1")
    with pytest.raises(ratus.NotFound):
        queue.get_task("2")
    assert queue.upsert("t", id="2") is True
    assert [task.id for task in queue.list_tasks("t", ratus.PageRequest()).items] == ["1", "2"]
    [task] = queue.claim("t", timeout="1m")
    task.extend("1h")
    assert task.remaining.total_seconds() > 3000
    task.archive().commit()
    assert queue.get_task("1").state == ARCHIVED
    [task] = queue.claim("t")
    task.release()
    assert queue.get_task("2").state == PENDING
    assert queue.claim("u", wait="50ms") == []


def test_an_exception_gives_the_task_back(queue: ratus.SyncQueue) -> None:
    queue.insert("t", id="1")
    with pytest.raises(ZeroDivisionError):
        for task in queue.subscribe("t"):
            with task:
                _ = 1 / 0
    end = time.monotonic() + SECONDS
    while (stats := queue.get_topic_stats("t")).pending != 1:  # it may have been on its way to this stream again
        assert time.monotonic() < end
    assert stats.waiting_consumers == 0


def test_threads_share_a_subscription(queue: ratus.SyncQueue) -> None:
    queue.insert_tasks([ratus.new_task("t", id=str(n)) for n in range(20)])
    together = threading.Barrier(4)
    seen: list[str] = []
    with queue.subscribe("t", concurrency=4) as tasks:

        def work() -> None:
            for task in tasks:
                with task:
                    seen.append(task.id)
                    together.wait(SECONDS)
                if len(seen) == 20:
                    tasks.stop()

        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(SECONDS)
    assert sorted(seen, key=int) == [str(n) for n in range(20)]
    assert queue.get_topic_stats("t").completed == 20


def test_promises_are_extended_while_a_handler_blocks(queue: ratus.SyncQueue) -> None:
    queue.insert("t", id="1")
    for task in queue.subscribe("t", timeout="5s"):
        first = queue.get_task("1").deadline
        end = time.monotonic() + SECONDS
        while queue.get_task("1").deadline == first:
            assert time.monotonic() < end
        assert not task.lost
        task.commit()
        break


@dataclass
class Page:
    url: str


def test_workers(queue: ratus.SyncQueue) -> None:
    together = threading.Barrier(3)
    left = itertools.count(2, -1)

    @queue.worker("fetch", type=Page, concurrency=3, retry="1h")
    def fetch(task: ratus.SyncActiveTask[Page]) -> None:
        together.wait(SECONDS)
        if task.payload.url == "1":
            raise ValueError
        task.abstain().topic = "parse"

    @queue.worker("parse")
    def parse(task: ratus.SyncActiveTask[Any]) -> None:
        if next(left) == 1:
            queue.stop()

    queue.insert_tasks([ratus.new_task("fetch", Page(str(n)), id=str(n)) for n in range(3)])
    queue.run()
    assert [queue.get_task(str(n)).state for n in range(3)] == [COMPLETED, PENDING, COMPLETED]


def test_a_handler_that_does_not_end_in_time_keeps_its_promise(server: Server) -> None:
    begun, go_on = threading.Event(), threading.Event()
    with ratus.connect_sync(server.target) as queue:

        @queue.worker("t", timeout="1m")
        def work(task: ratus.SyncActiveTask[Any]) -> None:
            begun.set()
            queue.stop()
            go_on.wait(SECONDS)

        queue.insert("t", id="1")
        queue.run(grace="100ms")
        assert begun.is_set()
    go_on.set()
    with ratus.connect_sync(server.target) as queue:
        assert queue.get_task("1").state == ACTIVE


def test_a_closed_client_says_so(server: Server) -> None:
    queue = ratus.connect_sync(server.target)
    queue.get_server_info()
    queue.close()
    queue.close()
    with pytest.raises(RuntimeError, match="closed"):
        queue.get_server_info()
