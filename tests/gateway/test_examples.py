"""The examples with curl, run as they stand against a real server."""

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Self
from urllib.parse import quote

import pytest

from tests.gateway.serving import Rest, serving

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples" / "curl"
WORKER = EXAMPLES / "worker.sh"
MISSING = [name for name in ("curl", "jq") if shutil.which(name) is None]

pytestmark = pytest.mark.skipif(bool(MISSING) and not os.environ.get("CI"), reason=f"NOT TESTED without {MISSING}")


def _sessions() -> list[tuple[str, str]]:
    """The commands of the page, each with what it prints."""
    blocks = re.findall(r"```console\n(.*?)```", (EXAMPLES / "README.md").read_text(), re.DOTALL)
    steps = re.findall(r"^\$ (.*)\n((?:(?!\$ ).*\n)*)", "".join(blocks), re.MULTILINE)
    assert len(steps) == sum(block.count("\n$ ") + 1 for block in blocks)
    return steps


def _timeless(text: str) -> str:
    """Without what differs from run to run: times, nonces, and the signs of life of a stream that waits."""
    text = re.sub(r"^:?\n", "", text, flags=re.MULTILINE)
    text = re.sub(r'"nonce":"\w{16}"', '"nonce":"NONCE"', text)
    return re.sub(r'"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z"', '"TIME"', text)


def test_the_sessions_of_the_page(tmp_path: Path) -> None:
    with serving() as rest:
        shutil.copytree(EXAMPLES, tmp_path / "examples" / "curl")
        steps = _sessions()
        mark = "--- next ---"
        script = "".join(f"{command}\necho '{mark}'\n" for command, _ in steps)
        script = script.replace("localhost:8000", f"127.0.0.1:{rest.port}")
        script = script.replace("sleep 5", "sleep 10")  # patience for a busy machine
        run = subprocess.run(["sh"], input=script, capture_output=True, text=True, cwd=tmp_path, timeout=100)
    printed = run.stdout.split(f"{mark}\n")
    for (command, expected), got in zip(steps, printed, strict=False):
        assert (command, _timeless(got).rstrip()) == (command, _timeless(expected).rstrip()), run.stderr
    assert len(printed) == len(steps) + 1


@pytest.fixture(params=["jq", "python3"])
def tools(request: pytest.FixtureRequest, tmp_path: Path) -> dict[str, str]:
    """An environment that has curl and one of the tools for JSON, but not the other."""
    directory = tmp_path / "bin"
    directory.mkdir()
    for name in (*"sh curl sed mktemp mkfifo rm uname sleep cat touch".split(), request.param):  # noqa: SIM905
        found = sys.executable if name == "python3" else shutil.which(name)
        assert found is not None, name
        os.symlink(os.path.realpath(found), directory / name)
    return {**os.environ, "PATH": str(directory), "RETRY": "100ms", "TMPDIR": str(tmp_path)}


class Worker:
    """The script with a command for the tasks, in a process group of its own, which ends with the block."""

    def __init__(self, rest: Rest, topic: str, tools: dict[str, str], command: str) -> None:
        self.process = subprocess.Popen(
            [str(WORKER), rest.url, topic, "sh", "-c", command],
            env=tools,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        assert self.process.stdout is not None
        assert self.process.stderr is not None
        self.output, self.errors = self.process.stdout, self.process.stderr

    def stop(self) -> int:
        """Wait for the end that it was asked for; the exit status."""
        return self.process.wait(60)

    def kill(self) -> None:
        """End it with all that it has started."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()
        self.output.close()
        self.errors.close()


ODD = ["it's", '$(touch pwned) `x` \\n "', "žluť\n", {"n": 2**63 - 1, "e": [None, 1.5]}, "\r\n\u2028"]


def test_a_worker_works(rest: Rest, topic: str, tools: dict[str, str], tmp_path: Path) -> None:
    for number, payload in enumerate(ODD):
        id = quote(f"{topic} it's $(touch pwned)\n/%41ž {number}", safe="")
        assert rest("POST", f"/v1/topics/{topic}/tasks/{id}", json.dumps({"payload": payload})).status == 201
    with Worker(rest, topic, tools, "cat") as worker:
        assert [json.loads(worker.output.readline())["payload"] for _ in ODD] == ODD
        rest.until(topic, completed=len(ODD), waiting_consumers=1)
        worker.process.terminate()
        assert worker.stop() == 0
        assert (worker.output.read(), worker.errors.read()) == ("", "")
    rest.until(topic, waiting_consumers=0)
    assert [path.name for path in tmp_path.iterdir()] == ["bin"]  # no files are left


def test_what_fails_is_tried_again(rest: Rest, topic: str, tools: dict[str, str], tmp_path: Path) -> None:
    rest.insert(topic, 1)
    marker = tmp_path / "tried"
    with Worker(rest, topic, tools, f"cat; [ -e {marker} ] || {{ touch {marker}; exit 1; }}") as worker:
        first, again = (json.loads(worker.output.readline()) for _ in range(2))
        rest.until(topic, completed=1)
    assert first["nonce"] != again["nonce"]


def test_a_worker_finishes_its_task_before_it_ends(
    rest: Rest, topic: str, tools: dict[str, str], tmp_path: Path
) -> None:
    rest.insert(topic, 1, 2)
    os.mkfifo(tmp_path / "go")
    with Worker(rest, topic, tools, f"cat; read go <{tmp_path / 'go'}") as worker:
        assert worker.output.readline()
        worker.process.terminate()
        (tmp_path / "go").write_text("on\n")
        assert worker.stop() == 0
    rest.until(topic, completed=1, pending=1, active=0, waiting_consumers=0)  # the second may have been on its way


def test_a_worker_that_is_asked_to_end_as_a_task_comes_finishes_it(
    rest: Rest, topic: str, tools: dict[str, str], tmp_path: Path
) -> None:
    [tool] = (path for path in (tmp_path / "bin").iterdir() if path.name in ("jq", "python3"))
    real = tool.readlink()
    tool.unlink()
    for name in ("begun", "go"):
        os.mkfifo(tmp_path / name)
    tool.write_text(f'#!/bin/sh\necho >{tmp_path}/begun\nread go <{tmp_path}/go\nexec {real} "$@"\n')
    tool.chmod(0o755)
    rest.insert(topic, 1)
    with Worker(rest, topic, tools, "cat") as worker:
        (tmp_path / "begun").read_text()  # it has read the task, and looks what it is
        worker.process.terminate()
        (tmp_path / "go").write_text("on\n")
        assert worker.stop() == 0
        assert worker.errors.read() == ""
        assert json.loads(worker.output.read())["payload"] == 1
    rest.until(topic, completed=1)


def test_the_task_of_a_worker_that_dies_is_given_back(rest: Rest, topic: str, tools: dict[str, str]) -> None:
    rest.insert(topic, 1)
    with Worker(rest, topic, tools, "cat; sleep 60") as worker:
        assert worker.output.readline()
        worker.kill()
        rest.until(topic, pending=1, active=0)


def test_a_worker_connects_again(topic: str, tools: dict[str, str]) -> None:
    with serving() as rest, Worker(rest, topic, tools, "cat") as worker:
        rest.until(topic, waiting_consumers=1)
        rest.drain()
        lines = [
            worker.errors.readline() for _ in range(3)
        ]  # those of the first stream, and of one more that is refused
    assert {line.partition(":")[0] for line in lines} == {"service unavailable", "curl"}


def test_how_to_use_it(tools: dict[str, str]) -> None:
    run = subprocess.run([str(WORKER), "x"], env=tools, capture_output=True, text=True)
    assert run.returncode == 2
    assert "worker.sh URL TOPIC COMMAND" in run.stderr
    assert run.stdout == ""
