"""Ratus: a durable task queue server with a gRPC and a REST face."""

from importlib.metadata import version

__all__ = ["__version__"]

__version__ = version("ratus")
