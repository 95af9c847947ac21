"""The service does what the contract says, whatever comes after whatever, and whatever the clock does."""

import asyncio

from ratus.config import MongoDBSettings, SQLiteSettings
from ratus.engines.base import Engine
from ratus.engines.mongodb import MongoDBEngine
from ratus.engines.sqlite import SQLiteEngine
from tests.model.conftest import Run
from tests.model.service_machine import ServiceMachine
from tests.model.service_reads import Clock

RUNS, RUNS_OF_MONGODB = 40, 10  # some seconds for each engine


def test_the_service_does_what_the_contract_says(clock: Clock, run_machine: Run) -> None:
    drive(SQLiteEngine(SQLiteSettings(path=None)), clock, run_machine, RUNS)


def test_so_it_does_on_mongodb(clock: Clock, run_machine: Run, mongodb_settings: MongoDBSettings) -> None:
    drive(MongoDBEngine(mongodb_settings), clock, run_machine, RUNS_OF_MONGODB)


def drive(engine: Engine, clock: Clock, run_machine: Run, runs: int) -> None:
    with asyncio.Runner() as runner:
        runner.run(engine.open())
        if isinstance(engine, MongoDBEngine):
            runner.run(engine.indexed.wait())  # type: ignore[arg-type]
        try:
            run_machine(
                lambda: ServiceMachine(engine, runner, clock, expires=not isinstance(engine, MongoDBEngine)), runs
            )
        finally:
            runner.run(engine.close())
