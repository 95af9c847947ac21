"""The examples in Python, each as a process of its own that speaks to a server."""

import itertools
import json
import re
import subprocess
import sys
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.server import Server

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples" / "python"
DELAY = 0.1  # between two visits of a host


def run(script: str, *args: str) -> str:
    """What an example prints until it ends in order."""
    command = [sys.executable, str(EXAMPLES / script), *args]
    process = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert (process.returncode, process.stderr) == (0, "")
    return process.stdout


def tasks(server: Server, topic: str) -> list[dict[str, Any]]:
    with urllib.request.urlopen(f"{server.url}/v1/topics/{topic}/tasks?limit=100", timeout=20) as answer:
        found: list[dict[str, Any]] = json.load(answer)["data"]
    return found


def test_hello(server: Server) -> None:
    assert run("hello.py", server.target) == "{'hello': 'world'}\n{'hello': 'later'}\n"
    assert [task["state"] for task in tasks(server, "greetings")] == [2, 2]


VISIT = re.compile(r" *(\d+\.\d\d) (fresh|revisit|gone) +http://([^/]+)(/\w*)(?:, again in (\d+) s)?")


@dataclass
class Visit:
    moment: float
    topic: str
    host: str
    path: str
    pause: str | None

    @classmethod
    def of(cls, line: str) -> "Visit":
        matched = VISIT.fullmatch(line.rstrip("\n"))
        assert matched is not None, line
        moment, *others = matched.groups()
        return cls(float(moment), *others)


def test_the_crawler(server: Server) -> None:
    command = [sys.executable, str(EXAMPLES / "crawl.py"), "--address", server.target, "--port=0", f"--delay={DELAY}"]
    visits: list[Visit] = []
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            least = {"fresh": 16, "gone": 2, "revisit": 2}
            while any(count(visits, topic) < number for topic, number in least.items()):
                visits.append(Visit.of(process.stdout.readline()))
            process.terminate()
            visits += map(Visit.of, process.stdout)
            assert process.wait(30) == 0
        finally:
            process.kill()

    hosts = {visit.host for visit in visits}
    assert len(hosts) == 2
    pages = sorted((host, f"/{n or ''}") for host in hosts for n in range(8))
    assert sorted((visit.host, visit.path) for visit in visits if visit.topic == "fresh") == pages  # each once
    assert {visit.path for visit in visits if visit.topic == "gone"} == {"/missing"}
    # What has not changed is left alone for longer each time.
    pauses = [(visit.topic, visit.pause) for visit in visits if visit.path == "/" and visit.host == visits[0].host]
    assert pauses == [("fresh", "2"), ("revisit", "4"), ("revisit", "8"), ("revisit", "16")][: len(pauses)]
    for host in hosts:
        moments = sorted(visit.moment for visit in visits if visit.host == host)
        gaps = [later - sooner for sooner, later in itertools.pairwise(moments)]
        assert min(gaps) > DELAY - 0.011, moments  # they are printed in hundredths

    revisit = tasks(server, "revisit")
    assert sorted(task["_id"] for task in revisit) == [f"http://{host}{path}" for host, path in pages]
    assert {task["state"] for task in revisit} == {0}
    assert {task["state"] for task in tasks(server, "fresh")} == {3}


def count(visits: list[Visit], topic: str) -> int:
    return sum(visit.topic == topic for visit in visits)


def test_the_crawler_ends_after_so_many_visits(server: Server) -> None:
    assert len(run("crawl.py", "--address", server.target, "--port=0", "--visits=3").splitlines()) >= 3


def test_the_pipeline_sends_each_document_through_once_more(server: Server, tmp_path: Path) -> None:
    totals = "rose 4\na 3\nis 3\nthe 3\nsea 2\n"
    for _ in range(2):
        output = run("pipeline.py", server.target, str(tmp_path / "words.sqlite"))
        stored = sorted(output.splitlines()[:3])
        assert stored == ["stored fox", "stored rose", "stored sea"]
        assert output.splitlines(keepends=True)[3:] == totals.splitlines(keepends=True)
    finished = tasks(server, "store")
    assert [(task["_id"], task["state"]) for task in finished] == [
        (f"document-{name}", 2) for name in ("fox", "rose", "sea")
    ]
    assert finished[0]["payload"]["words"]["fox"] == 1
