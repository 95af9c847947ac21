"""Pushing, claiming, committing, listing and deleting, as scripts do it."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.commands.conftest import Ratus


def test_the_life_of_a_task(ratus: Ratus) -> None:
    assert ratus.one("push", "mail", '{"to": "ada"}', "--id", "a", "--producer", "p") == {
        "_id": "a",
        "topic": "mail",
        "created": 1,
        "updated": 0,
    }
    assert ratus.lines("topics") == [{"name": "mail", "count": 1}]
    task = ratus.one("claim", "mail", "--consumer", "c", "--timeout", "1m")
    assert (task["_id"], task["state"], task["payload"], task["consumer"], task["producer"]) == (
        "a",
        1,
        {"to": "ada"},
        "c",
        "p",
    )
    assert ratus.lines("promises", "mail") == [{"_id": "a", "consumer": "c", "deadline": task["deadline"]}]
    ratus("commit", "a", "--nonce", "wrong", code=4)
    done = ratus.one("commit", "a", "--nonce", task["nonce"], "--payload", '"sent"')
    assert (done["state"], done["payload"], done["nonce"]) == (2, "sent", "")
    assert ratus.one("tasks", "--id", "a") == done
    [stats] = ratus.lines("topics", "mail")
    assert (stats["name"], stats["completed"], stats["pending"]) == ("mail", 1, 0)


def test_what_a_payload_can_be(ratus: Ratus, tmp_path: Path) -> None:
    file = tmp_path / "payload.json"
    file.write_text("[1, 2]")
    for given, input, expected in (
        ("12345678901234567", None, 12345678901234567),
        (f"@{file}", None, [1, 2]),
        ("-", '{"from": "stdin"}', {"from": "stdin"}),
        ("--text", None, "hello"),
    ):
        args = ["--text", "hello"] if given == "--text" else [given]
        id = ratus.one("push", "t", *args, input=input)["_id"]
        assert ratus.one("tasks", "--id", id)["payload"] == expected
    assert "payload" not in ratus.one("tasks", "--id", ratus.one("push", "t")["_id"])
    assert "--text" in ratus("push", "t", "hello", code=2).stderr
    assert "nosuch" in ratus("push", "t", "@nosuch", code=2).stderr
    assert "not UTF-8" in ratus("push", "t", "-", "--text", input=b"\xff", code=2).stderr


def test_when_a_task_is_due(ratus: Ratus) -> None:
    ratus("push", "t", "--id", "later", "--defer", "1h30m")
    ratus("push", "t", "--id", "then", "--scheduled", "2100-01-01T00:00:00Z")
    ratus("claim", "t", code=3)
    later = datetime.fromisoformat(ratus.one("tasks", "--id", "later")["scheduled"])
    assert timedelta(hours=1.4) < later - datetime.now(UTC) <= timedelta(hours=1.5)
    assert ratus.one("tasks", "--id", "then")["scheduled"].startswith("2100-01-01T00:00:00")
    assert ratus.one("claim", "--id", "then")["_id"] == "then"
    ratus("claim", "--id", "then", code=4)
    again = ratus.one("claim", "--id", "then", "--force", "--deadline", "2100-01-01T00:00:00Z")
    assert again["deadline"].startswith("2100")
    ratus("commit", "then", "--state", "pending", "--defer", "-1s", "--topic", "other")
    assert ratus.one("claim", "other", "--wait", "1s")["_id"] == "then"


def test_ids_are_unique(ratus: Ratus) -> None:
    ratus("push", "t", "1", "--id", "a")
    assert "already exists" in ratus("push", "t", "2", "--id", "a", code=4).stderr
    assert ratus.one("push", "t", "3", "--id", "a", "--upsert")["updated"] == 1
    assert ratus.one("tasks", "--id", "a")["payload"] == 3


def test_lists_go_to_their_end(ratus: Ratus) -> None:
    tasks = "".join(json.dumps({"_id": f"{n:04}", "topic": f"t{n % 3}", "state": n % 4}) + "\n" for n in range(450))
    ratus("import", "-", input=tasks)
    assert len(ratus.lines("tasks")) == 100
    assert [task["_id"] for task in ratus.lines("tasks", "--all")] == [f"{n:04}" for n in range(450)]
    assert [task["_id"] for task in ratus.lines("tasks", "t1", "--limit", "3")] == ["0001", "0004", "0007"]
    found = ratus.lines("tasks", "--state", "archived", "--limit", "105")
    assert [task["_id"] for task in found] == [f"{n:04}" for n in range(3, 423, 4)]
    assert len(ratus.lines("promises")) == 113
    assert len(ratus.lines("promises", "t0", "--limit", "5")) == 5
    assert [stats["name"] for stats in ratus.lines("topics", "--stats")] == ["t0", "t1", "t2"]
    assert ratus.lines("tasks", "nosuch") == []


def test_promises_are_extended_and_given_back(ratus: Ratus) -> None:
    for id in "abc":
        ratus("push", "t", "--id", id)
    [first, *_] = ratus.lines("claim", "t", "--limit", "3", "--timeout", "1m")
    longer = ratus.one("promises", "--id", "a", "--extend", "10m")
    assert longer["deadline"] > first["deadline"]
    ratus("promises", "--id", "a", "--extend", "10m", "--nonce", "wrong", code=4)
    assert ratus.one("promises", "--id", "a") == longer
    assert ratus.one("promises", "--id", "a", "--release", "--nonce", first["nonce"]) == {"deleted": 1}
    ratus("promises", "--id", "a", "--release", code=3)
    ratus("promises", "--id", "a", "--extend", "1m", code=4)
    ratus("promises", "--id", "a", code=3)
    assert ratus.one("promises", "t", "--release") == {"deleted": 2}
    assert ratus.lines("promises") == []


def test_what_is_deleted(ratus: Ratus) -> None:
    for id, topic, state in (("a", "t", 0), ("b", "t", 2), ("c", "t", 2), ("d", "u", 0)):
        ratus("import", "-", input=json.dumps({"_id": id, "topic": topic, "state": state}))
    assert ratus.one("delete", "t", "--state", "completed") == {"deleted": 2}
    assert ratus.one("delete", "--id", "a") == {"deleted": 1}
    ratus("delete", "--id", "a", code=3)
    assert ratus.one("delete", "t") == {"deleted": 0}
    assert ratus.one("delete", "--all") == {"deleted": 1}


@pytest.mark.parametrize(
    "args",
    [
        ["push"],
        ["push", "t", "--defer", "soon"],
        ["push", "t", "--scheduled", "tomorrow"],
        ["push", "t" * 2000],
        ["claim"],
        ["claim", "t", "--id", "a"],
        ["claim", "t", "--force"],
        ["claim", "t", "--wait", "11m"],
        ["commit", "a", "--state", "nosuch"],
        ["tasks", "t", "--id", "a"],
        ["promises", "t", "--id", "a"],
        ["promises", "t", "--extend", "1m"],
        ["promises", "--id", "a", "--extend", "1m", "--release"],
        ["promises", "--release"],
        ["delete"],
        ["delete", "t", "--all"],
        ["delete", "--all", "--state", "pending"],
        ["watch", "--interval", "0s"],
        ["topics", "--metadata", "nonsense"],
        ["topics", "--cert", "/dev/null"],
        ["import", "nosuch.ndjson"],
        ["import", "-", "--resume"],
        ["export", "-", "--resume"],
        ["work", "t"],
        ["work", "t", "--exec", "true", "--archive-on", "256"],
        ["work", "t", "--exec", "true", "--timeout", "1ms"],
        ["doctor", "--rest", "localhost"],
        ["completion", "tcsh"],
        ["nosuch"],
    ],
)
def test_wrong_usage(ratus: Ratus, args: list[str]) -> None:
    result = ratus(*args, code=2)
    assert "Traceback" not in result.output
    assert result.stderr
