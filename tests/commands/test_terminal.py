"""What people see: tables, questions and progress, on a real terminal."""

import re
from pathlib import Path
from typing import Any

from tests.commands.conftest import Ratus


def test_tables(ratus: Ratus, terminal: Any) -> None:
    ratus("push", "mail", '{"to": "ada"}', "--id", "a")
    ratus("push", "mail", "--text", "[red]x" * 30, "--id", "b", "--defer", "2h")
    for args, words in (
        (["topics"], ["topic", "tasks", "mail", "2"]),
        (["topics", "mail"], ["pending", "oldest due", "in 119m", "ago|now"]),
        (["tasks"], ["payload", '{"to":"ada"}', "pending", re.escape("[red]x"), "…"]),
        (["tasks", "--id", "a"], ["_id", "payload", '{"to":"ada"}']),
        (["promises"], ["id", "consumer", "deadline"]),
        (["push", "mail", "--id", "c"], ["pushed c in topic mail"]),
        (["claim", "--id", "a"], ["nonce", "ratus commit a --nonce [A-Za-z0-9]{16}"]),
        (["commit", "a"], ["a is completed in topic mail"]),
        (["promises", "--id", "b", "--release"], ["there is no such promise"]),
        (["doctor"], ["connection", "ok", "journal", "recovery"]),
    ):
        shown = terminal(*args)
        shown.end()
        for word in words:
            assert re.search(word, shown.shown), shown.shown
        assert not shown.shown.lstrip().startswith("{")
    forced = terminal("topics", "--json")
    assert forced.end() == 0
    assert forced.shown.strip() == '{"name":"mail","count":3}'


def test_it_asks_before_it_deletes(ratus: Ratus, terminal: Any) -> None:
    for id in "abc":
        ratus("push", "t", "--id", id)
    refusing = terminal("delete", "t")
    refusing.until("Delete the tasks of topic t at 127.0.0.1:")
    refusing.answer("n")
    assert refusing.end() == 1
    assert "nothing was changed" in refusing.shown
    assert ratus.one("topics")["count"] == 3
    agreeing = terminal("delete", "--id", "a")
    agreeing.until("Delete task a")
    agreeing.answer("y")
    assert agreeing.end() == 0
    assert "deleted 1 task" in agreeing.shown
    sure = terminal("delete", "--all", "--yes")
    assert sure.end() == 0
    assert "deleted 2 tasks" in sure.shown
    ratus("push", "t")
    ratus("claim", "t")
    giving = terminal("promises", "t", "--release")
    giving.until("Give back all promises in topic t")
    giving.answer("y")
    assert giving.end() == 0
    assert "1 task is pending again" in giving.shown


def test_progress(ratus: Ratus, terminal: Any, numbers: Path, tmp_path: Path) -> None:
    for args, words in (
        (
            ["import", str(numbers)],
            ["import", "100%", "5,000 lines: 5,000 tasks created, 0 were there"],
        ),
        (["export", str(tmp_path / "out.ndjson")], ["export", "100%", "wrote 5,000 tasks"]),
        (["backup", str(tmp_path / "copy.db")], ["backup", "100%", "MiB of", "copied"]),
    ):
        shown = terminal(*args)
        assert shown.end() == 0, shown.shown
        for word in words:
            assert word in shown.shown
        assert "\x1b[" in shown.shown  # it has moved


def test_a_live_table_stays_while_the_server_is_away(ratus: Ratus, terminal: Any) -> None:
    ratus("push", "mail", "--id", "a")
    watching = terminal("watch", "--interval", "50ms")
    watching.until("done/s")
    ratus("push", "pages", "--id", "b")
    watching.until("pages")
    watching.process.send_signal(2)
    assert watching.end() == 130
    assert "Traceback" not in watching.shown
