"""The engines that the one suite runs on; a new engine only adds a name here."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from ratus.config import MongoDBSettings, SQLiteSettings
from ratus.engines.base import Engine
from ratus.engines.mongodb import MongoDBEngine, floors
from ratus.engines.mongodb.fallback import Operation
from ratus.engines.sqlite import SQLiteEngine
from tests.engines.helpers import Fail
from tests.engines.sharded import ShardedEngine
from tests.mongod import Mongod

ENGINES = (
    "sqlite",
    "sqlite-apart",  # the writer in a process of its own, as a server has it
    "memory",
    "mongodb",  # a replica set
    "mongodb-standalone",
    "mongodb-fallback",  # every fallback forced
    "mongodb-61",  # the server really answers with an error of sharding
    "mongodb-31025",
)


@pytest.fixture(params=ENGINES)
def closed_engine(request: pytest.FixtureRequest, tmp_path: Path) -> Engine:
    """Each of the engines, not opened yet."""
    kind: str = request.param
    if kind in ("sqlite", "sqlite-apart"):
        return SQLiteEngine(SQLiteSettings(path=str(tmp_path / "ratus.db")), apart=kind == "sqlite-apart")
    if kind == "memory":
        return SQLiteEngine(SQLiteSettings(path=None))
    if kind == "mongodb-standalone":
        return MongoDBEngine(request.getfixturevalue("standalone_settings"))
    settings: MongoDBSettings = request.getfixturevalue("mongodb_settings")
    if kind in ("mongodb-61", "mongodb-31025"):
        server: Mongod = request.getfixturevalue("mongod")
        return ShardedEngine(settings, server, int(kind.removeprefix("mongodb-")))
    engine = MongoDBEngine(settings)
    if kind == "mongodb-fallback":
        engine.fallbacks.force(*Operation)
    return engine


@pytest.fixture
def no_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    """No command in the background comes between those that a test counts."""
    monkeypatch.setattr(floors, "_SHORTEST_PAUSE", 3600.0)


@pytest.fixture
async def engine(closed_engine: Engine) -> AsyncIterator[Engine]:
    """Each of the engines, open and empty."""
    await closed_engine.open()
    if isinstance(closed_engine, MongoDBEngine):
        await closed_engine.indexed.wait()  # without its index a claim takes ties in any order
    yield closed_engine
    await closed_engine.close()


@pytest.fixture
def fail(mongod: Mongod, mongodb_settings: MongoDBSettings) -> Iterator[Fail]:
    """Make commands of the engine fail."""

    def fail(*commands: str, times: int = 1, skip: int = 0, **data: Any) -> None:
        mongod.fail(commands, times=times, skip=skip, appName=mongodb_settings.database, **data)

    yield fail
    mongod.heal()
