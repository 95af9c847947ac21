"""The endpoints for operators: health and metrics."""

from collections.abc import Iterable

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder

from gateway.answers import Answer
from gateway.calls import Call
from gateway.paths import Route
from ratus.backend import Backend


class Probes:
    """Tells whether the server runs and can serve, and how it is doing."""

    def __init__(self, backend: Backend, registry: CollectorRegistry) -> None:
        self._backend = backend
        self._registry = registry

    def routes(self) -> Iterable[Route]:
        """What is served, and by what."""
        return (
            Route("GET", "/healthz", self.get_liveness),
            Route("GET", "/livez", self.get_liveness),
            Route("GET", "/readyz", self.get_readiness),
            Route("GET", "/metrics", self.get_metrics),
        )

    async def get_liveness(self, call: Call) -> Answer:
        """Tell that the server runs."""
        return Answer(200)

    async def get_readiness(self, call: Call) -> Answer:
        """Tell whether calls can be served now."""
        await self._backend.check_ready()
        return Answer(200)

    async def get_metrics(self, call: Call) -> Answer:
        """Get the Prometheus metrics."""
        encoder, content_type = choose_encoder(call.header(b"accept"))
        return Answer(200, encoder(self._registry), content_type.encode())
