"""Prometheus metrics of the gRPC server, with the names and labels that its ecosystem uses.

The values of `grpc_code` are spelled as in Go, whose dashboards and alerts are the common ones: `OK`, `NotFound`.
"""

from typing import Final

import grpc
from prometheus_client import Counter, Histogram

from ratus.metrics import BUCKETS

_LABELS: Final = ("grpc_type", "grpc_service", "grpc_method")

STARTED: Final = Counter("grpc_server_started", "Total number of RPCs started on the server.", _LABELS)
HANDLED: Final = Counter(
    "grpc_server_handled",
    "Total number of RPCs completed on the server, regardless of success or failure.",
    (*_LABELS, "grpc_code"),
)
SECONDS: Final = Histogram(
    "grpc_server_handling_seconds",
    "Histogram of response latency (seconds) of RPCs handled by the server.",
    _LABELS,
    buckets=BUCKETS,
)

_SPELLINGS: Final = {code: code.name.title().replace("_", "") for code in grpc.StatusCode} | {
    grpc.StatusCode.OK: "OK",
    grpc.StatusCode.CANCELLED: "Canceled",
}


class Meter:
    """The metrics of one method."""

    def __init__(self, type: str, service: str, method: str) -> None:
        self._labels = (type, service, method)
        self._started = STARTED.labels(*self._labels)
        self._seconds = SECONDS.labels(*self._labels)
        self._handled: dict[grpc.StatusCode, Counter] = {}

    def start(self) -> None:
        """Count a call that begins."""
        self._started.inc()

    def finish(self, code: grpc.StatusCode, seconds: float) -> None:
        """Count a call that ends with this code after so many seconds."""
        handled = self._handled.get(code)
        if handled is None:
            handled = self._handled[code] = HANDLED.labels(*self._labels, _SPELLINGS[code])
        handled.inc()
        self._seconds.observe(seconds)
