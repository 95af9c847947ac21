"""What the machine asks a service for without changing anything: lists page by page, tasks, promises and topics."""

import asyncio
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

import msgspec
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, multiple, rule
from prometheus_client import CollectorRegistry

from ratus.config import Limits
from ratus.core.service import Service
from ratus.engines.base import Engine
from ratus.errors import NotFound
from ratus.model import PageRequest, Promise, Task, Topic
from tests.model import draws
from tests.model.contract import REFUSED, Contract
from tests.model.driving import Machine
from tests.model.model import ACTIVE, MISSING


class Clock:
    """Stands still until it is moved; takes the place of the clock of the process."""

    def __init__(self) -> None:
        self.now = draws.START

    def __call__(self) -> datetime:
        return self.now

    @property
    def gone(self) -> timedelta:
        """The time since the start."""
        return self.now - draws.START


class Reads(Machine[Contract]):
    """A service on an engine, and the contract."""

    tokens: Bundle[tuple[str, str]] = Bundle("tokens")  # of pages of tasks and promises, and the ID each stands for
    topic_tokens: Bundle[tuple[str, str]] = Bundle("topic_tokens")

    def __init__(
        self,
        engine: Engine,
        runner: asyncio.Runner,
        clock: Clock,
        *,
        expires: bool,
        kind: type[Service] = Service,
        patience: float = 60,
    ) -> None:
        super().__init__(engine, runner, Contract(), expires=expires)
        self.clock = clock
        self.patience = patience  # seconds for what has to come by itself
        clock.now = draws.START

        async def opened() -> Service:
            return kind(engine, Limits(), CollectorRegistry())

        self.service = runner.run(opened())

    def teardown(self) -> None:
        self.service.drain()
        self.runner.run(self.service.close())

    @rule(target=tokens, topic=st.just("") | draws.TOPICS, page=draws.SMALL_PAGES, before=st.none() | tokens)
    def list_tasks(self, topic: str, page: PageRequest, before: tuple[str, str] | None) -> Any:
        """A page behind another, which may have been taken long ago, be of another list, or have been used before."""
        token, after = before or ("", "")
        listed = self.model.listed(topic, after, page.offset, page.limit or 10)
        result = self.run(self.service.list_tasks(topic, msgspec.structs.replace(page, token=token)))
        assert result.items == listed
        return self._next(result.next_token, listed, self.model.listed(topic, after, page.offset, 100))

    @rule(target=tokens, topic=st.just("") | draws.TOPICS, page=draws.SMALL_PAGES, before=st.none() | tokens)
    def list_promises(self, topic: str, page: PageRequest, before: tuple[str, str] | None) -> Any:
        token, after = before or ("", "")
        listed = self.model.listed(topic, after, page.offset, page.limit or 10, active=True)
        result = self.run(self.service.list_promises(topic, msgspec.structs.replace(page, token=token)))
        assert result.items == [Promise(id=task.id, consumer=task.consumer, deadline=task.deadline) for task in listed]
        return self._next(result.next_token, listed, self.model.listed(topic, after, page.offset, 100, active=True))

    @rule(target=topic_tokens, page=draws.SMALL_PAGES, before=st.none() | topic_tokens)
    def list_topics(self, page: PageRequest, before: tuple[str, str] | None) -> Any:
        token, after = before or ("", "")
        topics = [topic for topic in self.model.topics() if topic.name.encode() > after.encode()][page.offset :]
        result = self.run(self.service.list_topics(msgspec.structs.replace(page, token=token)))
        assert result.items == topics[: page.limit or 10]
        return self._next(result.next_token, result.items, topics)

    @staticmethod
    def _next(token: str, items: Sequence[Task | Topic], all: Sequence[Task | Topic]) -> Any:
        """The token of the next page, which there is if there is more."""
        assert bool(token) == (len(items) < len(all))
        if not token:
            return multiple()
        last = items[-1]
        return (token, last.id if isinstance(last, Task) else last.name)

    @rule(id=draws.IDS)
    def get(self, id: str) -> None:
        task = self.model.tasks.get(id)
        assert self.run(self.service.get_task(id)) == (task or MISSING)
        promised = task is not None and task.state == ACTIVE
        found = self.run(self.service.get_promise(id))
        assert found == (
            Promise(id=id, consumer=task.consumer, deadline=task.deadline) if task and promised else MISSING
        )

    @rule(topic=draws.TOPICS)
    def look(self, topic: str) -> None:
        stats = self.model.stats(topic, self.clock.now)
        count = stats.pending + stats.active + stats.completed + stats.archived
        assert self.run(self.service.get_topic_stats(topic)) == stats
        assert self.run(self.service.get_topic(topic)) == (Topic(topic, count) if count else NotFound.__name__)

    @rule(page=draws.BAD_PAGES, topic=st.just("") | draws.TOPICS)
    def list_malformed(self, page: PageRequest, topic: str) -> None:
        assert self.run(self.service.list_tasks(topic, page)) == REFUSED
        assert self.run(self.service.list_promises(topic, page)) == REFUSED
        assert self.run(self.service.list_topics(page)) == REFUSED
