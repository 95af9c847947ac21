"""Prometheus metrics of the gRPC server, with the names and labels that its ecosystem uses.

The values of `grpc_code` are spelled as in Go, whose dashboards and alerts are the common ones: `OK`, `NotFound`.
"""

from collections.abc import Callable
from typing import Final

import grpc
from prometheus_client import CollectorRegistry, Counter, Histogram

from ratus.metrics import BUCKETS

_LABELS: Final = ("grpc_type", "grpc_service", "grpc_method")

_SPELLINGS: Final = {code: code.name.title().replace("_", "") for code in grpc.StatusCode} | {
    grpc.StatusCode.OK: "OK",
    grpc.StatusCode.CANCELLED: "Canceled",
}


class RPCMetrics:
    """What the gRPC server counts."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._started = Counter(
            "grpc_server_started", "Total number of RPCs started on the server.", _LABELS, registry=registry
        )
        self._handled = Counter(
            "grpc_server_handled",
            "Total number of RPCs completed on the server, regardless of success or failure.",
            (*_LABELS, "grpc_code"),
            registry=registry,
        )
        self._seconds = Histogram(
            "grpc_server_handling_seconds",
            "Histogram of response latency (seconds) of RPCs handled by the server.",
            _LABELS,
            buckets=BUCKETS,
            registry=registry,
        )

    def meter(self, type: str, service: str, method: str) -> "Meter":
        """The metrics of one method."""
        labels = (type, service, method)
        return Meter(
            self._started.labels(*labels),
            self._seconds.labels(*labels),
            lambda code: self._handled.labels(*labels, _SPELLINGS[code]),
        )


class Meter:
    """The metrics of one method; its children are looked up once."""

    def __init__(self, started: Counter, seconds: Histogram, handled: Callable[[grpc.StatusCode], Counter]) -> None:
        self._started = started
        self._seconds = seconds
        self._handled = handled
        self._by_code: dict[grpc.StatusCode, Counter] = {}

    def start(self) -> None:
        """Count a call that begins."""
        self._started.inc()

    def finish(self, code: grpc.StatusCode, seconds: float) -> None:
        """Count a call that ends with this code after so many seconds."""
        handled = self._by_code.get(code)
        if handled is None:
            handled = self._by_code[code] = self._handled(code)
        handled.inc()
        self._seconds.observe(seconds)
