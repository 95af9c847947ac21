"""The endpoints of promises. For a single promise the topic of the path is ignored."""

from collections.abc import Iterable
from functools import partial

from gateway import answers, bodies, queries
from gateway.answers import Answer
from gateway.calls import Call
from gateway.paging import collect
from gateway.paths import Route
from ratus.backend import Backend
from ratus.errors import NotFound
from ratus.model import ClaimRequest


class Promises:
    """Lists, gets, makes and deletes promises."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend

    def routes(self) -> Iterable[Route]:
        """What is served, and by what."""
        return (
            Route("GET", "/topics/:topic/promises", self.list_promises),
            Route("POST", "/topics/:topic/promises", self.claim_task, reads_body=True),
            Route("DELETE", "/topics/:topic/promises", self.delete_promises),
            Route("GET", "/topics/:topic/promises/:id", self.get_promise),
            Route("POST", "/topics/:topic/promises/:id", self.insert_promise, reads_body=True),
            Route("PUT", "/topics/:topic/promises/:id", self.upsert_promise, reads_body=True),
            Route("DELETE", "/topics/:topic/promises/:id", self.delete_promise),
        )

    async def list_promises(self, call: Call) -> Answer:
        """List the promises of a topic."""
        page = queries.page(call.query)
        return answers.listed(await collect(partial(self._backend.list_promises, call.topic), page))

    async def claim_task(self, call: Call) -> Answer:
        """Claim the next due task of a topic, or the one that the body names."""
        promise = bodies.promise(call.body, queries.values(call.query))
        if promise.id:
            return answers.ok(await self._backend.insert_promise(promise))
        tasks = await self._backend.claim_tasks(
            ClaimRequest(
                topic=call.topic,
                consumer=promise.consumer,
                deadline=promise.deadline,
                timeout=promise.timeout,
                limit=1,
            )
        )
        if not tasks:
            raise NotFound
        return answers.ok(tasks[0])

    async def delete_promises(self, call: Call) -> Answer:
        """Set the active tasks of a topic back to pending."""
        return answers.deleted(await self._backend.delete_promises(call.topic))

    async def get_promise(self, call: Call) -> Answer:
        """Get the promise on an active task."""
        return answers.ok(await self._backend.get_promise(call.id))

    async def insert_promise(self, call: Call) -> Answer:
        """Claim a task if it is pending."""
        promise = bodies.promise(call.body, queries.values(call.query), call.id)
        return answers.ok(await self._backend.insert_promise(promise))

    async def upsert_promise(self, call: Call) -> Answer:
        """Claim a task in any state."""
        promise = bodies.promise(call.body, queries.values(call.query), call.id)
        return answers.ok(await self._backend.upsert_promise(promise))

    async def delete_promise(self, call: Call) -> Answer:
        """Set an active task back to pending."""
        return answers.deleted(await self._backend.delete_promise(call.id))
