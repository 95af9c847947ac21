"""The machine that drives an engine and the model through the same operations."""

import asyncio
from datetime import datetime
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import Bundle, initialize, multiple, precondition, rule

from ratus.engines.base import Engine
from ratus.errors import NotFound
from ratus.model import Commit, Extension, Grant, Hold, Task, Topic
from tests.model import draws
from tests.model.driving import HOURS, Machine, bare, outcome
from tests.model.model import Model


class EngineMachine(Machine[Model]):
    """One engine and the model."""

    promises: Bundle[Hold] = Bundle("promises")

    def __init__(self, engine: Engine, runner: asyncio.Runner, *, expires: bool) -> None:
        super().__init__(engine, runner, Model(), expires=expires)
        self.grants = 0

    def grant(self, now: datetime, request: str = "") -> Grant:
        """A promise as no other."""
        self.grants += 1
        return Grant(f"n{self.grants}", f"c{self.grants % 3}", now, now + (self.grants % 5) * 400 * draws.MS, request)

    @initialize(tasks=st.lists(draws.due_tasks(), max_size=8))
    def begin(self, tasks: list[Task]) -> None:
        self.insert(tasks)

    @rule(tasks=st.lists(draws.stored_tasks(), max_size=5))
    def insert(self, tasks: list[Task]) -> None:
        assert self.run(self.engine.insert(tasks)) == self.model.insert(tasks)

    @rule(tasks=st.lists(draws.stored_tasks(), max_size=4))
    def upsert(self, tasks: list[Task]) -> None:
        created = self.run(self.engine.upsert(tasks))
        new = [task.id for task, is_new in zip(tasks, created, strict=True) if is_new]
        assert sorted(new) == sorted(self.model.upsert(tasks))

    @rule(
        target=promises,
        topic=draws.TOPICS,
        now=draws.MOMENTS,
        count=st.integers(1, 4),
        max_bytes=st.sampled_from([draws.MANY_BYTES, draws.MANY_BYTES, draws.FEW_BYTES, 0]),
        request=st.sampled_from(["", "", "r", "r1", "s"]),
    )
    def claim(self, topic: str, now: datetime, count: int, max_bytes: int, request: str) -> Any:
        grants = [self.grant(now, request) for _ in range(count)]
        if count == 1:
            max_bytes = draws.MANY_BYTES
        claimed = self.run(self.engine.claim(topic, grants, max_bytes))
        self.model.check_claim(topic, grants, max_bytes, claimed)
        return multiple(*(Hold(task.id, task.nonce) for task in claimed))

    @rule(target=promises, id=draws.IDS, now=draws.MOMENTS, force=st.booleans())
    def promise(self, id: str, now: datetime, force: bool) -> Any:
        grant = self.grant(now)
        promised = self.run(self.engine.promise(id, grant, force=force))
        assert promised == self.model.promise(id, grant, force=force)
        return Hold(id, grant.nonce) if isinstance(promised, Task) else multiple()

    @rule(
        holds=st.lists(promises | st.builds(Hold, draws.IDS, st.sampled_from(["", "given"])), max_size=4),
        payloads=st.booleans(),
        data=st.data(),
    )
    def commit(self, holds: list[Hold], payloads: bool, data: st.DataObject) -> None:
        plain = data.draw(st.booleans())
        commits = [
            Commit(id=hold.id, nonce=hold.nonce, **({"state": 2} if plain else draws.fields(data.draw)))
            for hold in holds
        ]
        results = [outcome(result) for result in self.run(self.engine.commit(commits, payloads=payloads))]
        expected = [self.model.commit(commit) for commit in commits]
        if not payloads:  # they may be left out
            results = [bare(result) if isinstance(result, Task) else result for result in results]
            expected = [bare(result) if isinstance(result, Task) else result for result in expected]
        assert results == expected

    @rule(held=st.lists(st.tuples(promises, draws.MOMENTS), max_size=3))
    def extend(self, held: list[tuple[Hold, datetime]]) -> None:
        extensions = [Extension(id=hold.id, nonce=hold.nonce, deadline=deadline) for hold, deadline in held]
        assert self.run(self.engine.extend(extensions)) == [self.model.extend(extension) for extension in extensions]

    @rule(holds=st.lists(promises, max_size=3))
    def release(self, holds: list[Hold]) -> None:
        assert self.run(self.engine.release(holds)) == [self.model.release(hold) for hold in holds]

    @rule(holds=st.lists(promises, max_size=4))
    def held(self, holds: list[Hold]) -> None:
        assert self.run(self.engine.held(holds)) == [self.model.holds(hold) for hold in holds]

    @rule(hold=promises | st.builds(Hold, draws.IDS, st.just("")), named=st.booleans())
    def delete_promise(self, hold: Hold, named: bool) -> None:
        nonce = hold.nonce if named else ""
        assert self.run(self.engine.delete_promise(hold.id, nonce)) == self.model.delete_promise(hold.id, nonce)

    @rule(topic=draws.TOPICS)
    def delete_promises(self, topic: str) -> None:
        freed = self.model.free(lambda task: task.topic == topic)
        assert self.run(self.engine.delete_promises(topic)) == len(freed)

    @precondition(lambda self: len(self.model.tasks) > 3)
    @rule(id=draws.IDS)
    def delete(self, id: str) -> None:
        assert self.run(self.engine.delete(id)) == self.model.delete(lambda task: task.id == id)

    @precondition(lambda self: len(self.model.tasks) > 6)  # or else there would hardly be tasks
    @rule(topic=draws.TOPICS, state=st.none() | st.integers(0, 3))
    def delete_tasks(self, topic: str, state: int | None) -> None:
        deleted = self.model.delete(lambda task: task.topic == topic and state in (None, task.state))
        assert self.run(self.engine.delete_tasks(topic, state)) == deleted

    @rule(now=draws.MOMENTS)
    def recover(self, now: datetime) -> None:
        recovered = self.run(self.engine.recover(now))
        freed = self.model.free(lambda task: task.deadline is not None and task.deadline < now)
        assert sorted(recovered) == sorted(set(freed))

    @rule(now=draws.MOMENTS)
    def expire(self, now: datetime) -> None:
        if self.expires:
            assert self.run(self.engine.expire(now + HOURS)) == self.model.expire(now + HOURS)
        else:
            assert self.run(self.engine.expire(now)) == 0

    @rule(topic=st.just("") | draws.TOPICS, page=draws.PAGES)
    def list_tasks(self, topic: str, page: tuple[str, int, int]) -> None:
        assert self.run(self.engine.list_tasks(topic, *page)) == self.model.listed(topic, *page)

    @rule(topic=st.just("") | draws.TOPICS, page=draws.PAGES)
    def list_promises(self, topic: str, page: tuple[str, int, int]) -> None:
        listed = [bare(task) for task in self.run(self.engine.list_promises(topic, *page))]
        assert listed == [bare(task) for task in self.model.listed(topic, *page, active=True)]

    @rule(id=draws.IDS)
    def get(self, id: str) -> None:
        assert self.run(self.engine.get(id)) == self.model.tasks.get(id, NotFound.__name__)

    @rule(id=draws.IDS)
    def get_promise(self, id: str) -> None:
        task = self.model.tasks.get(id)
        found = self.run(self.engine.get_promise(id))
        if task is None or task.state != 1:
            assert found == NotFound.__name__
        else:
            assert bare(found) == bare(task)

    @rule(page=st.tuples(st.just("") | draws.TOPICS, st.integers(0, 2), st.integers(1, 5)))
    def list_topics(self, page: tuple[str, int, int]) -> None:
        after, skip, limit = page
        topics = [topic for topic in self.model.topics() if topic.name.encode() > after.encode()]
        assert self.run(self.engine.list_topics(after, skip, limit)) == topics[skip : skip + limit]

    @rule(topic=draws.TOPICS, now=draws.MOMENTS)
    def look(self, topic: str, now: datetime) -> None:
        stats = self.model.stats(topic, now)
        count = stats.pending + stats.active + stats.completed + stats.archived
        assert self.run(self.engine.get_stats(topic, now)) == stats
        assert self.run(self.engine.get_topic(topic)) == (Topic(topic, count) if count else NotFound.__name__)
        assert self.run(self.engine.next_scheduled(topic)) == self.model.next_scheduled(topic)
        assert self.run(self.engine.due_topics([topic, "none"], now)) == ([topic] if stats.due else [])
        assert self.run(self.engine.next_deadline()) == self.model.next_deadline()

    @rule(request=st.sampled_from(["r", "r1", "s", "x"]))
    def requested(self, request: str) -> None:
        found = self.run(self.engine.requested(request))
        assert {task.id: name for name, task in found} == self.model.requested(request)
        assert all(task == self.model.tasks[task.id] for _, task in found)
        times = [task.scheduled for _, task in found]
        assert times == sorted(times)
