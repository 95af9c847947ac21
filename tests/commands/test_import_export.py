"""Imports and exports, also those that are interrupted in the middle."""

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from ratus.commands.lines import Lines
from tests.commands.conftest import Ratus
from tests.server import Server


def write(path: Path, count: int, size: int = 100) -> Path:
    with path.open("w") as file:
        for n in range(count):
            file.write(f'{{"_id":"n{n:07}","topic":"t{n % 3}","payload":"{n:0{size}}"}}\n')
    return path


def until(happened: Callable[[], bool], process: "subprocess.Popen[str]", seconds: float = 60) -> None:
    """Return once it has happened while the process was running."""
    end = time.monotonic() + seconds
    while not happened():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end
        time.sleep(0.002)


def test_what_a_file_can_say(ratus: Ratus, tmp_path: Path) -> None:
    file = tmp_path / "tasks.ndjson"
    task = {"_id": "a", "topic": "t", "state": 1, "nonce": "N" * 16, "producer": "p", "consumer": "c"}
    task |= {name: f"2020-01-0{day}T00:00:00Z" for day, name in enumerate(("produced", "scheduled", "consumed"), 1)}
    task |= {"deadline": "2100-01-01T00:00:00Z", "payload": {"big": 9007199254740993}}
    file.write_text(json.dumps(task) + "\n\n" + '{"_id":"b","unknown":1,"payload":null}\r\n{"_id":"c","topic":"u"}')
    assert ratus.one("import", str(file), "--topic", "default") == {"lines": 4, "created": 3, "existing": 0, "named": 0}
    found = ratus.one("tasks", "--id", "a")
    assert {
        **found,
        **{name: found[name].replace(".000000", "") for name in found if "20" in str(found[name])[:2]},
    } == task
    assert [(each["_id"], each["topic"]) for each in ratus.lines("tasks")] == [("a", "t"), ("b", "default"), ("c", "u")]
    assert ratus.one("import", str(file), "--topic", "default")["existing"] == 3
    assert not (tmp_path / "tasks.ndjson.import").exists()


def _with_microseconds(value: object) -> object:
    return value.replace("Z", ".000000Z") if isinstance(value, str) and value.endswith("00Z") else value


def test_tasks_without_an_id_are_known_again(ratus: Ratus, tmp_path: Path) -> None:
    file = tmp_path / "tasks.ndjson"
    file.write_text('{"payload":1}\n' * 3 + '{"payload":2}\n')
    assert ratus.one("import", str(file), "--topic", "t")["named"] == 4
    assert ratus.one("topics")["count"] == 4  # lines alike are different tasks
    assert ratus.one("import", str(file), "--topic", "t") == {"lines": 4, "created": 0, "existing": 4, "named": 4}
    assert ratus.one("import", str(file), "--topic", "t", "--skip", "2")["existing"] == 2
    assert ratus.one("import", str(file), "--topic", "t", "--name", "other")["created"] == 4
    assert ratus.one("import", "-", "--topic", "t", "--name", "other", input=file.read_bytes())["existing"] == 4


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("nonsense", "no task in JSON"),
        ('{"_id":"x"}', "topic must not be empty"),
        ('{"_id":"x","topic":"t","state":7}', "invalid state 7"),
        ('{"_id":"x","topic":"t","scheduled":"soon"}', "RFC 3339"),
        ('{"_id":"x","topic":"t","payload":1e400}', "payload"),
        ('{"_id":"%s","topic":"t"}' % ("x" * 2000), "exceed"),
        ('{"_id":"x","topic":"t","payload":"%s"}' % ("x" * 1_100_000), "exceeds the maximum"),
    ],
)
def test_a_line_that_is_wrong_is_named(ratus: Ratus, tmp_path: Path, line: str, words: str) -> None:
    file = write(tmp_path / "tasks.ndjson", 2_500)
    good = file.read_text().splitlines()
    file.write_text("\n".join([*good[:2_200], line, *good[2_200:]]) + "\n")
    stderr = ratus("import", str(file), code=2).stderr
    assert "line 2201: " in stderr
    assert words in stderr
    count = sum(topic["count"] for topic in ratus.lines("topics"))
    assert count == 2000  # whole batches only
    file.write_text("\n".join(good) + "\n")  # mended
    done = ratus.one("import", str(file), "--resume")
    assert (done["created"] + done["existing"], done["lines"]) == (2_500, 2_500)
    assert sum(topic["count"] for topic in ratus.lines("topics")) == 2_500


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_an_import_that_is_interrupted_goes_on(ratus: Ratus, tmp_path: Path, number: int) -> None:
    file = write(tmp_path / "tasks.ndjson", 60_000)
    mark = tmp_path / "tasks.ndjson.import"
    process = ratus.start("import", str(file))
    until(mark.exists, process)
    process.send_signal(number)
    _, stderr = process.communicate(timeout=60)
    saved = json.loads(mark.read_bytes())
    assert 0 < saved["line"] < 60_000
    if number != signal.SIGKILL:
        assert process.returncode == 130
        assert f"interrupted after {saved['line']:,} lines" in stderr
        assert "Go on with --resume" in stderr
        assert sum(topic["count"] for topic in ratus.lines("topics")) == saved["line"]  # exactly
    ratus("delete", "--id", "n0000000")  # what lies before the bookmark is not looked at again
    assert "had the topic" in ratus("import", str(file), "--resume", "--topic", "x", code=2).stderr
    done = ratus.one("import", str(file), "--resume")
    assert done["lines"] == 60_000
    assert done["created"] + done["existing"] == 60_000
    assert not mark.exists()
    assert sum(topic["count"] for topic in ratus.lines("topics")) == 59_999


def test_stdin_goes_on_with_skip(ratus: Ratus, tmp_path: Path) -> None:
    file = write(tmp_path / "tasks.ndjson", 60_000)
    with file.open("rb") as source:
        process = ratus.start("import", "-", stdin=source)
        until(lambda: bool(ratus.lines("topics")), process)
        process.send_signal(signal.SIGINT)
        _, stderr = process.communicate(timeout=60)
    assert process.returncode == 130
    line = int(stderr.rpartition("--skip ")[2])
    assert sum(topic["count"] for topic in ratus.lines("topics")) == line
    done = ratus.one("import", "-", "--skip", str(line), input=file.read_bytes())
    assert done == {"lines": 60_000, "created": 60_000 - line, "existing": 0, "named": 0}


def test_a_file_that_has_changed_is_not_gone_on_with(ratus: Ratus, tmp_path: Path) -> None:
    file = write(tmp_path / "tasks.ndjson", 60_000)
    process = ratus.start("import", str(file))
    until((tmp_path / "tasks.ndjson.import").exists, process)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    file.write_text('{"_id":"other","topic":"t"}\n' * 60_000)
    assert "import it anew" in ratus("import", str(file), "--resume", code=1).stderr


def test_without_a_server_it_does_not_wait(ratus: Ratus, numbers: Path) -> None:
    result = ratus("import", str(numbers), "--target", "127.0.0.1:1", code=5)
    assert "cannot reach 127.0.0.1:1" in result.stderr
    assert "--resume" not in result.stderr  # which only an import that has begun to wait would say
    assert sorted(file.name for file in numbers.parent.iterdir()) == [numbers.name]


def test_an_import_outlasts_a_restart_of_the_server(tmp_path: Path) -> None:
    file = write(tmp_path / "tasks.ndjson", 60_000)
    with Server(tmp_path / "log", "--sqlite-path", str(tmp_path / "q.db")) as server:
        ratus = Ratus(server.target)
        process = ratus.start("import", str(file))
        until((tmp_path / "tasks.ndjson.import").exists, process)
        server.kill()
        server.start()
        stdout, stderr = process.communicate(timeout=90)
        assert process.returncode == 0, stderr
        done = json.loads(stdout)
        assert done["created"] + done["existing"] == 60_000
        assert sum(topic["count"] for topic in ratus.lines("topics")) == 60_000


def test_an_export_is_what_was_imported(ratus: Ratus, tmp_path: Path) -> None:
    ratus("import", str(write(tmp_path / "in.ndjson", 3_000)))
    assert ratus.one("export", str(tmp_path / "out.ndjson"))["tasks"] == 3_000
    exported = (tmp_path / "out.ndjson").read_bytes()
    assert ratus("export").stdout_bytes == exported
    assert ratus.one("export", str(tmp_path / "t1.ndjson"), "--topic", "t1")["tasks"] == 1_000
    ratus("commit", "n0000000", "--state", "archived")
    assert [task["_id"] for task in ratus.lines("export", "--state", "archived")] == ["n0000000"]
    assert ratus.lines("export", "--topic", "nosuch") == []
    assert "--force" in ratus("export", str(tmp_path / "out.ndjson"), code=1).stderr
    ratus("delete", "--all")
    ratus("import", str(tmp_path / "out.ndjson"))
    ratus("export", str(tmp_path / "out.ndjson"), "--force")
    assert (tmp_path / "out.ndjson").read_bytes() == exported
    assert sorted(os.listdir(tmp_path)) == ["in.ndjson", "out.ndjson", "t1.ndjson"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_an_export_that_is_interrupted_goes_on(ratus: Ratus, tmp_path: Path, number: int) -> None:
    ratus("import", str(write(tmp_path / "in.ndjson", 60_000)))
    file, part, mark = (tmp_path / name for name in ("out.ndjson", "out.ndjson.part", "out.ndjson.export"))
    process = ratus.start("export", str(file))
    until(mark.exists if number == signal.SIGKILL else lambda: part.exists() and part.stat().st_size > 0, process)
    process.send_signal(number)
    _, stderr = process.communicate(timeout=60)
    assert mark.exists()
    assert not file.exists()
    saved = json.loads(mark.read_bytes())
    assert 0 < saved["written"] < 60_000
    if number == signal.SIGINT:
        assert process.returncode == 130
        assert f"interrupted after {saved['written']:,} tasks" in stderr
    ratus("delete", "--id", "n0000000")  # what was written is not read again
    assert ratus.one("export", str(file), "--resume")["tasks"] == 60_000
    assert [json.loads(line)["_id"] for line in file.read_bytes().splitlines()] == [f"n{n:07}" for n in range(60_000)]
    assert not part.exists()
    assert not mark.exists()


def test_memory_stays_bounded(ratus: Ratus, tmp_path: Path) -> None:
    peaks = []
    for count in (20_000, 120_000):
        ratus("delete", "--all")
        file = write(tmp_path / f"{count}.ndjson", count)
        peaks.append(peak(ratus.start("import", str(file))))
        peaks.append(peak(ratus.start("export", str(tmp_path / f"{count}.out"))))
    small, large = peaks[:2], peaks[2:]
    for before, after in zip(small, large, strict=True):
        assert after < before + 20_000_000, peaks


def peak(process: "subprocess.Popen[str]") -> int:
    """The largest resident size of a process that runs to its end."""
    largest, watched = 0, psutil.Process(process.pid)
    while process.poll() is None:
        try:
            largest = max(largest, watched.memory_info().rss)
        except psutil.NoSuchProcess:
            break
        time.sleep(0.01)
    process.communicate()
    assert process.returncode == 0
    return largest


class Chunks:
    """Stands for a file of one long line."""

    def __init__(self, size: int) -> None:
        self.left = size

    def readline(self, limit: int) -> bytes:
        size = min(limit, self.left)
        self.left -= size
        return b"x" * size


def test_a_line_without_an_end(ratus: Ratus) -> None:
    lines: Iterator[object] = Lines(Chunks(100_000_000), topic="", name="").batches()  # type: ignore[arg-type]
    with pytest.raises(Exception, match="line 1: longer than"):
        next(lines)
