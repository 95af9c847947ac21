"""Composes the REST face."""

from prometheus_client import CollectorRegistry

from gateway.face import Face
from gateway.metrics import RequestMetrics
from gateway.openapi import document
from gateway.paths import Route, Router
from gateway.probes import Probes
from gateway.promises import Promises
from gateway.site import create_site
from gateway.streams import Streams
from gateway.tasks import Tasks
from gateway.topics import Topics
from ratus.backend import Backend
from ratus.config import MAX_REQUEST_BYTES


def create_app(backend: Backend, *, registry: CollectorRegistry, max_request_bytes: int = MAX_REQUEST_BYTES) -> Face:
    """The REST face in front of a backend.

    Its metrics are registered in `registry`, which is what `/metrics` shows. A body of more than
    `max_request_bytes` is refused.
    """
    return Face(Router(routes(backend, registry)), create_site(document()), RequestMetrics(registry), max_request_bytes)


def routes(backend: Backend, registry: CollectorRegistry) -> list[Route]:
    """The contents of the API."""
    return [
        *Topics(backend).routes(),
        *Tasks(backend).routes(),
        *Promises(backend).routes(),
        *Streams(backend).routes(),
        *Probes(backend, registry).routes(),
    ]
