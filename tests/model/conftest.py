"""How long the machines run: briefly and always the same by default, for long and at random where told so."""

import os
import random
from collections.abc import Callable, Iterable
from typing import Protocol

import hypothesis
import pytest
from hypothesis.stateful import RuleBasedStateMachine, run_state_machine_as_test

from ratus import times
from tests.engines.conftest import closed_engine
from tests.model.service_reads import Clock

__all__ = ["closed_engine"]

WITHOUT_SHRINKING = (hypothesis.Phase.generate,)


class Run(Protocol):
    """Runs a machine."""

    def __call__(
        self,
        machine: Callable[[], RuleBasedStateMachine],
        runs: int,
        steps: int = 30,
        phases: Iterable[hypothesis.Phase] = tuple(hypothesis.Phase),
    ) -> None: ...


@pytest.fixture
def run_machine() -> Run:
    """Runs a machine so many times, or MODEL_RUNS times; what fails is made small and printed as a program.

    MODEL_SEED repeats a run, `random` makes one up.
    """
    given = os.environ.get("MODEL_SEED", "0")
    seed = random.SystemRandom().getrandbits(32) if given == "random" else int(given)

    def run(
        machine: Callable[[], RuleBasedStateMachine],
        runs: int,
        steps: int = 30,
        phases: Iterable[hypothesis.Phase] = tuple(hypothesis.Phase),
    ) -> None:
        runs = int(os.environ.get("MODEL_RUNS", runs))
        print(f"repeat with MODEL_SEED={seed} MODEL_RUNS={runs}")
        settings = hypothesis.settings(
            max_examples=runs,
            stateful_step_count=steps,
            deadline=None,
            database=None,
            phases=phases,
            report_multiple_bugs=False,
            suppress_health_check=list(hypothesis.HealthCheck),
        )
        run_state_machine_as_test(hypothesis.seed(seed)(machine), settings=settings)

    return run


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The clock of this process, in the hand of a machine."""
    clock = Clock()
    monkeypatch.setattr(times, "now", clock)
    return clock
