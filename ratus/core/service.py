"""The service: what a call does, for both faces alike."""

import time
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final

from prometheus_client import CollectorRegistry

import ratus
from ratus import rules, times
from ratus.config import Limits
from ratus.core.alarm import Alarm
from ratus.core.answers import room_in_answer
from ratus.core.delivery import Delivery
from ratus.core.metrics import CoreMetrics
from ratus.core.pages import first_after, page_of
from ratus.core.repeats import Repeats
from ratus.core.subscription import Subscription
from ratus.core.upkeep import Upkeep
from ratus.engines.base import Engine
from ratus.errors import Draining, NonceMismatch, NotFound, RatusError, StorageUnavailable, TaskExists
from ratus.model import (
    ClaimRequest,
    Commit,
    Extension,
    Hold,
    Page,
    PageRequest,
    PollRequest,
    Promise,
    ServerInfo,
    Task,
    TaskInput,
    TaskState,
    Topic,
    TopicStats,
    Updated,
)

_PENDING: Final = TaskState.PENDING.value  # to compare plain numbers is faster, and done for every task
_ACTIVE: Final = TaskState.ACTIVE.value
_SETTLED: Final = (Task, NonceMismatch, NotFound)  # results of a commit after which its nonce is that of no promise


class Service:
    """Implements the Backend on an engine that is open, and opens streams."""

    def __init__(self, engine: Engine, limits: Limits, registry: CollectorRegistry) -> None:
        self._engine = engine
        self._limits = limits
        self._metrics = CoreMetrics(registry)
        self._delivery = Delivery(engine, self._on_claimed)
        self._repeats = Repeats(engine)
        self.upkeep = Upkeep(engine)
        self.deadlines = Alarm()  # when recovery has something to do
        self._started = time.monotonic()
        self._draining = False

    # Tasks

    async def list_tasks(self, topic: str, page: PageRequest) -> Page[Task]:
        """A page of tasks."""
        page = self._check_list(topic, page)
        tasks = await self._engine.list_tasks(topic, first_after(page), page.offset, page.limit + 1)
        return page_of(tasks, min(page.limit, room_in_answer(tasks)), lambda task: task.id)

    async def get_task(self, id: str) -> Task:
        """A task; NotFound."""
        return await self._engine.get(rules.check_id(id))

    async def insert_task(self, task: TaskInput) -> Updated:
        """Insert a task; TaskExists."""
        now = times.now()
        updated = await self._insert([rules.new_task(task, now, self._limits)], now)
        if not updated.created:
            raise TaskExists
        return updated

    async def insert_tasks(self, tasks: Sequence[TaskInput]) -> Updated:
        """Insert tasks and leave those that exist."""
        now = times.now()
        return await self._insert(self._new_tasks(tasks, now), now)

    async def _insert(self, tasks: Sequence[Task], now: datetime) -> Updated:
        if not tasks:
            return Updated(0, 0)
        offer = self._delivery.offer(tasks, now)
        if offer is not None:
            created = await self._delivery.hand_over(offer)
        else:
            created = await self._insert_pending(tasks)
        new = [task for task, is_new in zip(tasks, created, strict=True) if is_new]
        self._metrics.produced(new)
        if offer is None:
            self._stored(new, now)
        existing = [] if len(new) == len(tasks) else _others(tasks, new)
        return Updated(len(new), 0, existing)

    async def _insert_pending(self, tasks: Sequence[Task]) -> list[bool]:
        try:
            return await self._engine.insert(tasks)
        except StorageUnavailable:
            self._delivery.recheck({task.topic for task in tasks})  # they may have been stored
            raise

    async def upsert_task(self, task: TaskInput) -> Updated:
        """Insert or replace a task."""
        now = times.now()
        return await self._upsert([rules.new_task(task, now, self._limits)], now)

    async def upsert_tasks(self, tasks: Sequence[TaskInput]) -> Updated:
        """Insert or replace tasks."""
        now = times.now()
        return await self._upsert(self._new_tasks(tasks, now), now)

    async def _upsert(self, tasks: Sequence[Task], now: datetime) -> Updated:
        if not tasks:
            return Updated(0, 0)
        ids = [task.id for task in tasks]
        held = self._delivery.windows.holds_of(ids)
        created = await self._engine.upsert(tasks)
        new = [task for task, is_new in zip(tasks, created, strict=True) if is_new]
        self._metrics.produced(new)
        self._delivery.overruled(ids, held)
        self._stored(tasks, now)
        return Updated(len(new), len(tasks) - len(new), _others(tasks, new))

    def _stored(self, tasks: Sequence[Task], now: datetime) -> None:
        """Tell who waits for it that tasks are stored as they are."""
        self._delivery.pending([task for task in tasks if task.state == _PENDING], now)
        for task in tasks:
            if task.state == _ACTIVE:
                self.deadlines.set(task.deadline)

    def _on_claimed(self, tasks: Sequence[Task]) -> None:
        self._metrics.consumed(tasks)
        if tasks:
            self.deadlines.set(min(task.deadline for task in tasks if task.deadline is not None))

    def _new_tasks(self, tasks: Sequence[TaskInput], now: datetime) -> list[Task]:
        return rules.each(tasks, "tasks", lambda task: rules.new_task(task, now, self._limits))

    async def delete_task(self, id: str) -> int:
        """Delete a task."""
        held = self._delivery.windows.holds_of([id])
        deleted = await self._engine.delete(rules.check_id(id))
        self._delivery.overruled([id], held)
        return deleted

    async def delete_tasks(self, topic: str, state: int | None = None) -> int:
        """Delete the tasks of a topic."""
        rules.check_topic(topic)
        deleted = await self._engine.delete_tasks(topic, None if state is None else rules.check_state(state))
        await self._delivery.reconcile()
        return deleted

    async def commit_task(self, commit: Commit) -> Task:
        """Apply a commit."""
        now = times.now()
        [result] = await self._commit([rules.check_commit(commit, now, self._limits)], now, payloads=True)
        if isinstance(result, RatusError):
            raise result
        return result

    async def commit_tasks(self, commits: Sequence[Commit], return_tasks: bool) -> list[Task | RatusError | None]:
        """Apply commits in order; tasks are left out once they would not fit into one answer."""
        now = times.now()
        checked = rules.each(commits, "commits", lambda commit: rules.check_commit(commit, now, self._limits))
        if not checked:
            return []
        results = await self._commit(checked, now, payloads=return_tasks)
        if not return_tasks:
            return [result if isinstance(result, RatusError) else None for result in results]
        tasks = [result for result in results if isinstance(result, Task)]
        room = room_in_answer(tasks)
        sent = {id(task) for task in tasks[:room]}
        return [result if isinstance(result, RatusError) or id(result) in sent else None for result in results]

    async def _commit(self, commits: Sequence[Commit], now: datetime, *, payloads: bool) -> list[Task | RatusError]:
        held = self._delivery.windows.holds_of(commit.id for commit in commits if not commit.nonce)
        results = await self._engine.commit(commits, payloads=payloads)
        tasks = [result for result in results if isinstance(result, Task)]
        self._metrics.committed(tasks, now)
        if not self._delivery.windows.empty:
            settled = [commit for commit, result in zip(commits, results, strict=True) if isinstance(result, _SETTLED)]
            self._delivery.windows.settle([commit for commit in settled if commit.nonce])
            self._delivery.overruled([commit.id for commit in settled if not commit.nonce], held)
        self._stored(tasks, now)
        return results

    # Topics

    async def list_topics(self, page: PageRequest) -> Page[Topic]:
        """A page of topics."""
        page = rules.check_page(page, self._limits)
        topics = await self._engine.list_topics(first_after(page), page.offset, page.limit + 1)
        return page_of(topics, page.limit, lambda topic: topic.name)

    async def get_topic(self, topic: str) -> Topic:
        """A topic; NotFound."""
        return await self._engine.get_topic(rules.check_topic(topic))

    async def get_topic_stats(self, topic: str) -> TopicStats:
        """How a topic is doing."""
        stats = await self._engine.get_stats(rules.check_topic(topic), times.now())
        stats.waiting_consumers = self._delivery.waiting(topic)
        return stats

    async def delete_topic(self, topic: str) -> int:
        """Delete a topic and its tasks."""
        return await self.delete_tasks(topic)

    async def delete_topics(self) -> int:
        """Delete everything."""
        deleted = await self._engine.delete_topics()
        await self._delivery.reconcile()
        return deleted

    # Promises

    async def list_promises(self, topic: str, page: PageRequest) -> Page[Promise]:
        """A page of promises."""
        page = self._check_list(topic, page)
        tasks = await self._engine.list_promises(topic, first_after(page), page.offset, page.limit + 1)
        return page_of([_promise_on(task) for task in tasks], page.limit, lambda promise: promise.id)

    async def get_promise(self, id: str) -> Promise:
        """The promise on an active task; NotFound."""
        return _promise_on(await self._engine.get_promise(rules.check_id(id)))

    async def insert_promise(self, promise: Promise) -> Task:
        """Claim the named task if it is pending."""
        return await self._promise(promise, force=False)

    async def upsert_promise(self, promise: Promise) -> Task:
        """Claim the named task in any state."""
        return await self._promise(promise, force=True)

    async def _promise(self, promise: Promise, *, force: bool) -> Task:
        rules.check_promise(promise)
        rules.end_of_promise(promise.deadline, promise.timeout, times.now())
        grant = rules.grant(promise.consumer, promise.deadline, promise.timeout, times.now())
        held = self._delivery.windows.holds_of([promise.id])
        task = await self._engine.promise(promise.id, grant, force=force)
        self._delivery.overruled([promise.id], held)
        self._on_claimed([task])
        return task

    async def delete_promise(self, id: str, nonce: str = "") -> int:
        """Set an active task back to pending."""
        held = [Hold(id, nonce)] if nonce else self._delivery.windows.holds_of([id])
        topic = await self._engine.delete_promise(rules.check_id(id), rules.check_name(nonce, "nonce"))
        if topic is None:
            return 0
        self._delivery.overruled([id], held)
        self._delivery.recheck([topic])
        return 1

    async def delete_promises(self, topic: str) -> int:
        """Set the active tasks of a topic back to pending."""
        deleted = await self._engine.delete_promises(rules.check_topic(topic))
        await self._delivery.reconcile()
        self._delivery.recheck([topic])
        return deleted

    async def claim_tasks(self, request: ClaimRequest) -> list[Task]:
        """Claim the next due tasks of a topic, and wait for the first if asked to."""
        request = rules.check_claim(request)
        rules.end_of_promise(request.deadline, request.timeout, times.now())  # refuse what no claim could set
        if not request.request_id:
            return await self._delivery.claim(request)
        async with self._repeats.claim(request) as (key, held):
            return held or await self._delivery.claim(request, key)

    def subscribe(self, request: PollRequest, *, notices: bool = False) -> Subscription:
        """Open a stream of due tasks, with notices of lost ones if wanted; Draining, TooMany."""
        request = rules.check_poll(request)
        rules.end_of_promise(None, request.timeout, times.now())
        return self._delivery.subscribe(request, notices=notices)

    async def extend_promises(self, extensions: Sequence[Extension]) -> list[RatusError | None]:
        """Set the deadlines of promises that are held."""
        now = times.now()
        checked = rules.each(extensions, "extensions", lambda extension: rules.check_extension(extension, now))
        if not checked:
            return []
        results = await self._engine.extend(checked)
        for extension, held in zip(checked, results, strict=True):
            if held:
                assert extension.deadline is not None  # the rules have set it
                self._delivery.windows.extend(extension.id, extension.nonce, extension.deadline)
                self.deadlines.set(extension.deadline)
            else:
                self._delivery.windows.settle([Hold(extension.id, extension.nonce)])
        return [None if held else NonceMismatch() for held in results]

    async def release_promises(self, holds: Sequence[Hold]) -> list[RatusError | None]:
        """Set tasks that are held back to pending."""
        checked = rules.each(holds, "releases", rules.check_hold)
        if not checked:
            return []
        topics = await self._engine.release(checked)
        self._delivery.windows.settle(checked)
        self._delivery.recheck({topic for topic in topics if topic is not None})
        return [None if topic is not None else NonceMismatch() for topic in topics]

    # The server

    async def get_server_info(self) -> ServerInfo:
        """Facts about the server."""
        return ServerInfo(
            version=ratus.__version__,
            engine=self._engine.name,
            time=times.now(),
            uptime=timedelta(milliseconds=int((time.monotonic() - self._started) * 1000)),
        )

    async def check_ready(self) -> None:
        """Return if calls can be served now; Draining, StorageUnavailable."""
        if self._draining:
            raise Draining()
        await self._engine.check()

    async def recover(self) -> None:
        """Set tasks whose deadline has passed back to pending."""
        self.deadlines.clear()
        with self._metrics.chore_duration.time():
            topics = await self._engine.recover(times.now())
            self._delivery.recheck(topics)
            self.deadlines.set(await self._engine.next_deadline())
        if topics:
            await self._delivery.reconcile()

    async def expire(self) -> None:
        """Delete completed tasks that were kept long enough."""
        with self._metrics.chore_duration.time():
            await self._engine.expire(times.now())

    def drain(self) -> None:
        """Be ready no more, and end all waits and streams with Draining."""
        self._draining = True
        self._delivery.drain()

    async def close(self) -> None:
        """Finish what is under way in the background, once no call is."""
        await self._delivery.close()

    def _check_list(self, topic: str, page: PageRequest) -> PageRequest:
        rules.check_name(topic, "topic")
        return rules.check_page(page, self._limits)


def _others(tasks: Sequence[Task], new: Sequence[Task]) -> list[str]:
    """The IDs of tasks that are not new, each once."""
    new_ids = {task.id for task in new}
    return list(dict.fromkeys(task.id for task in tasks if task.id not in new_ids))


def _promise_on(task: Task) -> Promise:
    return Promise(id=task.id, consumer=task.consumer, deadline=task.deadline)
