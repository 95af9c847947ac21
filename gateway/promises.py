"""The endpoints of promises. For a single promise the topic of the path is ignored."""

import asyncio
import logging
from collections.abc import Iterable
from functools import partial
from typing import Final

from gateway import answers, bodies, queries
from gateway.answers import Answer
from gateway.bodies import Claim
from gateway.calls import Call
from gateway.client import Client
from gateway.paging import collect
from gateway.paths import Route
from ratus.backend import Backend
from ratus.errors import BadRequest, ClientClosed, NonceMismatch, NotFound, RatusError
from ratus.model import Promise, Task

_FIRST: Final = "extensions[0]."  # where the backend sees the one extension of a call

_logger = logging.getLogger(__name__)


class Promises:
    """Lists, gets, makes, extends and deletes promises."""

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
            Route("POST", "/topics/:topic/promises/:id/extend", self.extend_promise, reads_body=True),
        )

    async def list_promises(self, call: Call) -> Answer:
        """List the promises of a topic."""
        page = queries.page(call.query)
        return answers.listed(await collect(partial(self._backend.list_promises, call.topic), page))

    async def claim_task(self, call: Call) -> Answer:
        """Claim the next due task of a topic, or a list of them, or the one that the body names."""
        claim = bodies.claim(call.body, queries.values(call.query), call.topic)
        if isinstance(claim, Promise):
            return answers.ok(await self._backend.insert_promise(claim))
        if claim.listed or claim.request.wait:
            tasks = await self._claim_for(call.client, claim)
        else:  # at once, so that nobody needs to watch
            tasks = await self._backend.claim_tasks(claim.request)
        if claim.listed:
            return answers.listed(tasks)
        if not tasks:
            raise NotFound
        return answers.ok(tasks[0])

    async def _claim_for(self, client: Client, claim: Claim) -> list[Task]:
        """Claim tasks for a client for as long as it is there; ClientClosed."""
        async with client.watched():
            tasks = await self._backend.claim_tasks(claim.request)
        if client.gone:
            if not claim.request.request_id:  # with one a repeat asks for these tasks, and may have got them by now
                await self._give_back(tasks)
            raise ClientClosed
        return tasks

    async def _give_back(self, tasks: list[Task]) -> None:
        try:
            await asyncio.gather(*(self._backend.delete_promise(task.id, task.nonce) for task in tasks))
        except RatusError as error:
            _logger.warning("%d tasks of a client that went away wait for their deadlines: %s", len(tasks), error)

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

    async def extend_promise(self, call: Call) -> Answer:
        """Set the deadline of a promise that is held, and tell the promise after it."""
        extension = bodies.extension(call.body, queries.values(call.query), call.id)
        try:
            [failure] = await self._backend.extend_promises([extension])
        except BadRequest as error:
            field = error.field.removeprefix(_FIRST)
            raise BadRequest(error.description, field=field, bare=error.bare) from None
        if failure is not None:
            raise failure
        try:
            task = await self._backend.get_task(call.id)
        except NotFound:
            raise NonceMismatch from None
        if task.nonce != extension.nonce:  # it has ended since, and there may be another
            raise NonceMismatch
        return answers.ok(Promise(id=task.id, consumer=task.consumer, deadline=task.deadline))
