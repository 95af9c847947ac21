"""A command for each task."""

import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.commands.conftest import Ratus
from tests.server import insist


def wait_for(happened: Any, process: "subprocess.Popen[str] | None" = None, seconds: float = 30) -> None:
    end = time.monotonic() + seconds
    while not happened():
        assert process is None or process.poll() is None, process.communicate()
        assert time.monotonic() < end
        time.sleep(0.02)


def states(ratus: Ratus) -> dict[str, int]:
    return {task["_id"]: task["state"] for task in ratus.lines("tasks")}


def test_the_exit_status_decides(ratus: Ratus, tmp_path: Path) -> None:
    for id, payload in (("good", "0"), ("bad", "65"), ("later", "75"), ("mail", '"a text"')):
        ratus("push", "t", payload, "--id", id, "--producer", "somebody")
    script = tmp_path / "script.sh"
    script.write_text(
        'read -r payload; echo "$payload" > "$OUT/$RATUS_ID"; env | grep ^RATUS_ > "$OUT/$RATUS_ID.env"\n'
        'case $payload in 65|75) exit "$payload" ;; esac\n'
    )
    ratus.env["OUT"] = str(tmp_path)
    command = f"sh {script}"
    args = ["--exec", command, "--retry", "1h", "--archive-on", "64,65", "--text", "--count", "4", "--verbose"]
    process = ratus.start("work", "t", *args, "--consumer", "me")
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 0
    assert states(ratus) == {"good": 2, "bad": 3, "later": 0, "mail": 2}
    assert "task 'later': exit status 75" in stderr
    assert "again in 1h0m0s" in stderr
    assert "task 'good': done" in stderr
    assert (tmp_path / "mail").read_text() == "a text\n"
    env = dict(line.split("=", 1) for line in (tmp_path / "good.env").read_text().splitlines())
    task = ratus.one("tasks", "--id", "good")
    assert env["RATUS_ID"] == "good"
    assert env["RATUS_TOPIC"] == "t"
    assert len(env["RATUS_NONCE"]) == 16
    assert (env["RATUS_PRODUCER"], env["RATUS_CONSUMER"]) == ("somebody", "me")
    assert env["RATUS_SCHEDULED"].removesuffix("Z") in task["scheduled"]
    assert env["RATUS_DEADLINE"].removesuffix("Z") in task["deadline"]
    assert env["RATUS_TARGET"] == ratus.target
    assert "skipping fork" not in stderr


def test_a_failure_gives_the_task_back(ratus: Ratus, tmp_path: Path) -> None:
    ratus("push", "t", "--id", "a")
    command = f"echo x >> {tmp_path}/tries; test $(wc -l < {tmp_path}/tries) -ge 2"
    process = ratus.start("work", "t", "--exec", command, "--count", "2")
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 0
    assert "exit status 1" in stderr
    assert "given back" in stderr
    assert states(ratus) == {"a": 2}


def test_many_at_once_and_the_end_when_idle(ratus: Ratus, tmp_path: Path) -> None:
    for n in range(8):
        ratus("push", f"t{n % 2}", "--id", str(n))
    command = f"touch {tmp_path}/$RATUS_ID; while test $(ls {tmp_path} | wc -l) -lt 4; do sleep 0.05; done"
    process = ratus.start("work", "t0", "t1", "--exec", command, "--concurrency", "4", "--idle", "5s")
    process.communicate(timeout=60)
    assert process.returncode == 0
    assert set(states(ratus).values()) == {2}  # had they not run four at a time, none would have ended


def test_the_promise_lasts_as_long_as_the_command(ratus: Ratus) -> None:
    ratus("push", "t", "--id", "a")
    process = ratus.start("work", "t", "--exec", "sleep 5", "--timeout", "3s", "--count", "1")
    _, stderr = process.communicate(timeout=60)
    assert states(ratus) == {"a": 2}, stderr
    assert "lost" not in stderr


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_lets_commands_finish(ratus: Ratus, tmp_path: Path, number: int) -> None:
    ratus("push", "t", "--id", "a")
    ratus("push", "t", "--id", "b", "--defer", "1s")
    command = f"touch {tmp_path}/begun; while ! test -e {tmp_path}/go; do sleep 0.05; done"
    process = ratus.start("work", "t", "--exec", command)
    wait_for((tmp_path / "begun").exists, process)
    process.send_signal(number)
    (tmp_path / "go").touch()
    process.communicate(timeout=60)
    assert process.returncode == 0
    assert states(ratus) == {"a": 2, "b": 0}


@pytest.mark.parametrize("how", ["grace", "twice"])
def test_it_stops_what_does_not_finish(ratus: Ratus, tmp_path: Path, how: str) -> None:
    ratus("push", "t", "--id", "a")
    command = f"sleep 1000 & echo $! > {tmp_path}/pid.new; mv {tmp_path}/pid.new {tmp_path}/pid; wait"
    process = ratus.start("work", "t", "--exec", command, "--grace", "100ms" if how == "grace" else "1h")
    wait_for((tmp_path / "pid").exists, process)
    process.terminate()
    if how == "twice":
        insist(process)
    process.communicate(timeout=60)
    assert process.returncode == 0
    assert states(ratus) == {"a": 0}
    child = int((tmp_path / "pid").read_text())
    wait_for(lambda: not psutil.pid_exists(child) or psutil.Process(child).status() == psutil.STATUS_ZOMBIE)


def test_a_command_whose_promise_is_lost_is_stopped(ratus: Ratus, tmp_path: Path) -> None:
    ratus("push", "t", "--id", "a")
    command = f"touch {tmp_path}/begun; exec sleep 1000"
    process = ratus.start("work", "t", "--exec", command, "--count", "1", "--timeout", "2s")
    wait_for((tmp_path / "begun").exists, process)
    taken = ratus.one("claim", "--id", "a", "--force")
    _, stderr = process.communicate(timeout=60)
    assert "another consumer has got it" in stderr
    assert ratus.one("tasks", "--id", "a")["nonce"] == taken["nonce"]


def test_without_a_server_it_does_not_begin(ratus: Ratus) -> None:
    process = ratus.start("work", "t", "--exec", "true", "--target", "127.0.0.1:1")
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 5
    assert "cannot reach 127.0.0.1:1" in stderr
