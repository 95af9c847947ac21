"""What the machines share: something on an engine that is driven, and a model that it is compared with."""

import asyncio
from collections.abc import Coroutine
from typing import Any, Generic, TypeVar

from hypothesis.stateful import RuleBasedStateMachine, invariant

from ratus.engines.base import Engine
from ratus.errors import RatusError
from ratus.model import Task
from tests.model import draws
from tests.model.model import RETENTION, Model

T = TypeVar("T")
M = TypeVar("M", bound=Model)

HOURS = RETENTION + draws.MS  # after which what was completed at the start is gone


def outcome(result: Any) -> Any:
    """A result as the model has it: of an error its kind."""
    return type(result).__name__ if isinstance(result, RatusError) else result


def bare(task: Task) -> Task:
    """A task without its payload."""
    return Task(**{name: getattr(task, name) for name in task.__struct_fields__ if name != "payload"})


class Machine(RuleBasedStateMachine, Generic[M]):
    """An engine, emptied before each run, and a model; after every step they have the same tasks."""

    def __init__(self, engine: Engine, runner: asyncio.Runner, model: M, *, expires: bool) -> None:
        super().__init__()
        self.engine = engine
        self.runner = runner
        self.model = model
        self.expires = expires  # whether deleting what is old is up to the engine
        self.run(engine.delete_topics())

    def run(self, call: Coroutine[Any, Any, T]) -> T:
        """What an operation has come to; of an error its kind."""
        try:
            return self.runner.run(call)
        except RatusError as error:
            return outcome(error)  # type: ignore[no-any-return]

    @invariant()
    def same_tasks(self) -> None:
        assert self.run(self.engine.list_tasks("", "", 0, 100)) == self.model.listed("", "", 0, 100)
