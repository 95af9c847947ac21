"""Rows in and out."""

import random
from datetime import datetime

import pytest

from ratus import times
from ratus.engines.sqlite import rows, schema
from ratus.model import Task

EDGES = [-62135596800000, -1, 0, 1, 999, 2**42 - 1, 2**42, 2**42 + 1, 253402300799999]


@pytest.mark.parametrize("low,high", [(0, 2**31 * 1000), (0, 2**42), (2**42, 253402300799999), (-62135596800000, 0)])
def test_times_come_back_to_the_millisecond(low: int, high: int) -> None:
    picked = random.Random(low).choices(range(low, high), k=2000)
    moments: list[datetime] = [times.from_ms(ms) for ms in (*EDGES, *picked)]
    db = schema.connect(None)
    tasks = [
        Task(id=str(n), topic="t", state=0, nonce="", produced=moment, scheduled=moment, deadline=moment)
        for n, moment in enumerate(moments)
    ]
    rows.Change.insert(rows.INSERTED, "").run(db, [rows.row(n, task) for n, task in enumerate(tasks)])
    found = rows.select(db, "(SELECT * FROM task ORDER BY seq)", ())
    assert [stored.task for stored in found] == tasks
