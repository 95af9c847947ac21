"""The endpoints of topics."""

from collections.abc import Iterable

from gateway import answers, queries
from gateway.answers import Answer
from gateway.calls import Call
from gateway.paging import collect
from gateway.paths import Route
from ratus.backend import Backend


class Topics:
    """Lists, gets and deletes topics."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend

    def routes(self) -> Iterable[Route]:
        """What is served, and by what."""
        return (
            Route("GET", "/topics", self.list_topics),
            Route("DELETE", "/topics", self.delete_topics),
            Route("GET", "/topics/:topic", self.get_topic),
            Route("DELETE", "/topics/:topic", self.delete_topic),
        )

    async def list_topics(self, call: Call) -> Answer:
        """List the topics."""
        return answers.listed(await collect(self._backend.list_topics, queries.page(call.query)))

    async def delete_topics(self, call: Call) -> Answer:
        """Delete all topics and tasks."""
        return answers.deleted(await self._backend.delete_topics())

    async def get_topic(self, call: Call) -> Answer:
        """Get a topic."""
        return answers.ok(await self._backend.get_topic(call.topic))

    async def delete_topic(self, call: Call) -> Answer:
        """Delete a topic and its tasks."""
        return answers.deleted(await self._backend.delete_topic(call.topic))
