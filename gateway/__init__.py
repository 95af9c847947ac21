"""The REST face: an ASGI application that translates between HTTP and a `ratus.backend.Backend`."""

from gateway.app import create_app

__all__ = ["create_app"]
