"""What a user may write; type checkers must know all of it, strictly."""

import asyncio
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, assert_type

import ratus


@dataclass
class Page:
    url: str


async def work(queue: ratus.Queue) -> None:
    assert_type(await queue.insert("fetch", Page("u"), id=ratus.task_id("u"), defer="5s", exist_ok=True), str)
    assert_type(await queue.get_task("1"), ratus.Task)
    assert_type(await queue.list_tasks("t", ratus.PageRequest(limit=5)), ratus.Page[ratus.Task])
    async for task in queue.subscribe("fetch", type=Page, concurrency=20, timeout=timedelta(seconds=30)):
        async with task:
            assert_type(task.payload, Page)
            task.topic = "parse"
            task.retry("30s").archive().reschedule(datetime.now(UTC)).force()
            task.defer = 5
    async for anything in queue.subscribe("fetch", "parse"):
        assert_type(anything, ratus.ActiveTask[Any])
        await anything.commit()
    for claimed in await queue.claim("fetch", type=Page, limit=5, wait="1s"):
        assert_type(claimed.payload.url, str)
        await claimed.extend(60)

    @queue.worker("fetch", type=Page, retry=ratus.Retry("1s", factor=2, attempts=3, counter="attempts"))
    async def handle(task: ratus.ActiveTask[Page]) -> None:
        assert_type(task.remaining, timedelta)

    assert_type(handle, ratus.Worker[ratus.ActiveTask[Page]])
    await queue.run(grace="10s")


def work_sync() -> None:
    with ratus.connect_sync("localhost:50051", tls=ratus.TLS("ca.pem", key=b""), metadata={"a": "b"}) as queue:
        assert_type(queue.insert("fetch", {"url": "u"}), str)
        assert_type(queue.get_task("1"), ratus.Task)
        assert_type(queue.delete_tasks("t", ratus.TaskState.COMPLETED), int)
        for task in queue.subscribe("fetch", type=Page):
            with task:
                assert_type(task.payload, Page)

        @queue.worker("fetch")
        def handle(task: ratus.SyncActiveTask[Any]) -> None:
            task.state = ratus.TaskState.ARCHIVED

        queue.run()


async def main() -> None:
    try:
        async with ratus.connect() as queue:
            await work(queue)
    except (ratus.NonceMismatch, ratus.Unavailable) as error:
        assert_type(error.detail, str)


if __name__ == "__main__":
    asyncio.run(main())
