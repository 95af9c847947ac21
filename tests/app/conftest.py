"""Real `ratus` processes on every engine."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.server import Server

Start = Callable[..., Server]


@pytest.fixture(params=["sqlite", "memory", "mongodb"])
def engine_args(request: pytest.FixtureRequest, tmp_path: Path) -> list[str]:
    """The arguments that choose an engine with nothing in it."""
    if request.param in ("mongodb", "workers"):
        settings = request.getfixturevalue("mongodb_settings")
        workers = ["--workers", "2"] if request.param == "workers" else []
        return ["--engine", "mongodb", "--mongodb-uri", settings.uri, "--mongodb-database", settings.database, *workers]
    if request.param == "memory":
        return ["--engine", "memory"]
    return ["--sqlite-path", str(tmp_path / "q.db")]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts servers, which end with the test."""
    with ExitStack() as stack:

        def start_one(*args: str, **more: object) -> Server:
            return stack.enter_context(Server(tmp_path / "server.log", *args, **more))  # type: ignore[arg-type]

        yield start_one
