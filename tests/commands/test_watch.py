"""Watching topics."""

import json
from datetime import datetime
from pathlib import Path
from typing import Any

from tests.commands.conftest import Ratus, Terminal
from tests.server import Server


def test_lines_with_rates(ratus: Ratus) -> None:
    ratus("push", "t", "--id", "a")
    process = ratus.start("watch", "t", "empty", "--interval", "20ms")
    assert process.stdout is not None
    seen: list[Any] = []
    while len(seen) < 4 or not any(look["produced_per_second"] > 0 for look in seen):
        seen.append(json.loads(process.stdout.readline()))
        if len(seen) == 2:
            ratus("push", "t", "--id", "b")
    assert [look["name"] for look in seen[:4]] == ["t", "empty", "t", "empty"]
    assert seen[0]["pending"] == 1
    assert datetime.fromisoformat(seen[0]["oldest_due"]) <= datetime.fromisoformat(seen[0]["time"])
    assert "oldest_due" not in seen[1]
    for id in "ab":
        ratus("commit", id, "--state", "archived")
    while not any(look["done_per_second"] > 0 for look in seen):
        seen.append(json.loads(process.stdout.readline()))
    process.terminate()
    process.communicate()


def test_it_ends_after_so_many_looks(ratus: Ratus) -> None:
    assert ratus.lines("watch", "--count", "2", "--interval", "1ms") == []
    ratus("push", "t")
    assert len(ratus.lines("watch", "--count", "3", "--interval", "1ms")) == 3


def test_a_server_that_is_away_for_a_while(tmp_path: Path) -> None:
    with Server(tmp_path / "log", "--sqlite-path", str(tmp_path / "q.db")) as server:
        ratus = Ratus(server.target)
        ratus("push", "first")
        watching = Terminal(["watch", "--interval", "50ms"], ratus.env)
        try:
            watching.until("first")
            server.stop()
            watching.until("looking again")
            server.start()
            ratus("push", "second")
            watching.until("second")
        finally:
            watching.process.kill()
            watching.end()
