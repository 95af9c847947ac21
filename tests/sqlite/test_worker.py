"""What becomes of an answer whose caller is being cancelled."""

import asyncio

import pytest

from ratus.engines.sqlite.groups import Answer, Call
from ratus.engines.sqlite.worker import Worker
from ratus.engines.sqlite.writes import delete
from ratus.errors import StorageUnavailable


class Held(Worker):
    """Answers when it is told to."""

    def __init__(self) -> None:
        super().__init__(enough=1)
        self.calls: list[Call] = []

    def answer(self, answer: Answer) -> None:
        self._answer([answer])

    def _pass_on(self, calls: list[Call]) -> None:
        self.calls += calls


@pytest.mark.parametrize("order", ["answered first", "cancelled first", "cancelled and noticed first"])
@pytest.mark.parametrize("answer", [[1], StorageUnavailable()], ids=["result", "error"])
async def test_it_is_given_to_who_takes_what_is_abandoned(order: str, answer: Answer) -> None:
    worker, abandoned = Held(), list[int]()
    caller = asyncio.create_task(worker.run(delete, ["id"], abandoned=abandoned.extend))
    await asyncio.sleep(0)  # let it be passed on
    assert worker.calls == [Call(delete, ["id"])]
    match order:
        case "answered first":
            worker.answer(answer)
            caller.cancel()
        case "cancelled first":
            caller.cancel()
            worker.answer(answer)
        case "cancelled and noticed first":
            caller.cancel()
            await asyncio.wait([caller])
            worker.answer(answer)
    await asyncio.wait([caller])
    assert caller.cancelled()
    assert abandoned == ([] if isinstance(answer, BaseException) else [1])
    await worker.close()
