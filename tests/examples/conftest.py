"""A server as a process of its own, on a file."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.server import Server


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with Server(tmp_path / "log", "--sqlite-path", str(tmp_path / "q.db")) as server:
        yield server
