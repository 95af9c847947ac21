"""How long requests take, in the metric that the dashboards of the original know."""

from typing import Final

from prometheus_client import CollectorRegistry, Histogram

from ratus.config import MAX_NAME_BYTES
from ratus.metrics import BUCKETS, OTHER, Bounded

_METHODS: Final = frozenset(("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "CONNECT", "OPTIONS", "TRACE"))


class RequestMetrics:
    """Observes every request; what clients can choose is bounded."""

    def __init__(self, registry: CollectorRegistry) -> None:
        histogram = Histogram(
            "ratus_request_duration_seconds",
            "Duration of requests, in seconds",
            ("topic", "method", "endpoint", "status_code"),
            buckets=BUCKETS,
            registry=registry,
        )
        self._durations = Bounded(histogram, chosen=1)

    def observe(self, topic: str, method: str, endpoint: str, status: int, seconds: float) -> None:
        """Count a request; the endpoint is in the form `/v1/topics/:topic/tasks/:id`, empty for unknown paths.

        A stream is counted at its end with the time to its first byte, since hours of it are no duration of a request.
        """
        if method not in _METHODS:
            method = OTHER
        if len(topic) > MAX_NAME_BYTES:  # no topic, so do not keep it
            topic = OTHER
        self._durations.labels(topic, method, endpoint, str(status)).observe(seconds)
