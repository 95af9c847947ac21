"""Every engine does what the model does, whatever comes after whatever."""

import asyncio

from ratus.engines.base import Engine
from ratus.engines.mongodb import MongoDBEngine
from tests.model.conftest import Run
from tests.model.engine_machine import EngineMachine

RUNS, RUNS_OF_MONGODB = 60, 12  # some seconds for each engine


def test_an_engine_does_what_the_model_does(closed_engine: Engine, run_machine: Run) -> None:
    mongodb = isinstance(closed_engine, MongoDBEngine)
    with asyncio.Runner() as runner:
        runner.run(closed_engine.open())
        if isinstance(closed_engine, MongoDBEngine):
            runner.run(closed_engine.indexed.wait())  # type: ignore[arg-type]
        try:
            run_machine(
                lambda: EngineMachine(closed_engine, runner, expires=not mongodb),
                RUNS_OF_MONGODB if mongodb else RUNS,
            )
        finally:
            runner.run(closed_engine.close())
