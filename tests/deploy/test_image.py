"""The image: what linters say, and its steps, carried out without an engine."""

import json
import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from ratus.app import GRACE
from tests.deploy.tools import DEPLOY, IMAGE, ROOT, need, option_variables
from tests.ports import free_ports
from tests.server import STOP_SECONDS

DOCKERFILE = DEPLOY / "Dockerfile"


@dataclass(frozen=True)
class Step:
    """An instruction, such as `RUN`, and what follows it."""

    name: str
    text: str

    @property
    def words(self) -> list[str]:
        return self.text.split()


def steps() -> list[list[Step]]:
    """The instructions of each stage, its `FROM` first."""
    text = re.sub(r"^#.*\n", "", DOCKERFILE.read_text(), flags=re.MULTILINE)
    lines = re.sub(r"\\\n\s*", "", text).splitlines()
    stages: list[list[Step]] = [[]]
    for line in filter(None, lines):
        name, text = line.split(None, 1)
        if name == "FROM":
            stages.append([])
        stages[-1].append(Step(name, text))
    return stages[1:]


def only(stage: list[Step], name: str) -> Step:
    (step,) = (step for step in stage if step.name == name)
    return step


def environment(stage: list[Step]) -> dict[str, str]:
    return dict(word.split("=", 1) for word in only(stage, "ENV").words)


def test_the_linter_finds_nothing() -> None:
    linter = subprocess.run([need("hadolint"), "--no-color", DOCKERFILE], capture_output=True, text=True)
    assert linter.returncode == 0, linter.stdout + linter.stderr


def test_the_image_runs_as_nobody_of_importance() -> None:
    _, stage = steps()
    user = only(stage, "USER").text
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", user)  # a number, so that Kubernetes sees that it is not root
    assert f"--uid {user.split(':')[0]} " in only(stage, "RUN").text


def test_the_settings_are_those_of_the_server() -> None:
    _, stage = steps()
    own = {name for name in environment(stage) if not name.startswith("PYTHON") and name != "PATH"}
    assert own <= option_variables()
    assert environment(stage)["SQLITE_PATH"].startswith(only(stage, "VOLUME").text + "/")
    assert only(stage, "EXPOSE").words == ["8000", "50051"]
    assert f"--tag {IMAGE} ." in DOCKERFILE.read_text()


def test_the_context_holds_what_is_copied() -> None:
    rules = (ROOT / ".dockerignore").read_text().splitlines()
    copied = {word for step in steps()[0] if step.name == "COPY" for word in step.words[:-1]}
    assert "*" in rules
    assert {rule[1:] for rule in rules if rule.startswith("!")} == copied


@pytest.mark.timeout(600)
def test_the_steps_make_a_server_that_tells_its_health_and_ends_in_order(tmp_path: Path) -> None:
    source, installed, data = tmp_path / "src", tmp_path / "opt", tmp_path / "data"
    build, final = steps()
    for step in build:
        if step.name == "COPY":
            *names, target = step.words
            for name in names:
                if (ROOT / name).is_dir():
                    shutil.copytree(ROOT / name, source / target, ignore=shutil.ignore_patterns("__pycache__"))
                else:
                    (source / target).mkdir(parents=True, exist_ok=True)
                    shutil.copy(ROOT / name, source / target)

    def moved(text: str) -> str:
        return text.replace("/opt/ratus", str(installed)).replace("/src/", f"{source}/").replace("/data", str(data))

    # The cache is that of this machine, so that the packages need not be loaded again at every run.
    recipe = moved(only(build, "RUN").text).replace("--no-cache-dir", "")
    env = {**os.environ, "PATH": f"{Path(need('python')).parent}:{os.environ['PATH']}"}
    made = subprocess.run(["bash", "-euc", recipe], cwd=source, env=env, capture_output=True, text=True)
    assert made.returncode == 0, made.stdout + made.stderr
    assert only([step for step in final if "--from" in step.text], "COPY").words[1:] == ["/opt/ratus"] * 2

    data.mkdir()
    env = {name: value for name, value in os.environ.items() if name not in option_variables()}
    env |= {name: moved(value).replace("$PATH", os.environ["PATH"]) for name, value in environment(final).items()}
    port, grpc_port = free_ports(2)
    env |= {"PORT": str(port), "GRPC_PORT": str(grpc_port)}
    entry = json.loads(only(final, "ENTRYPOINT").text) + json.loads(only(final, "CMD").text)
    health = json.loads(only(final, "HEALTHCHECK").text.partition("CMD ")[2])
    executable = shutil.which(entry[0], path=env["PATH"])
    assert executable == str(installed / "bin" / "ratus")
    server = subprocess.Popen(entry, cwd=data, env=env, executable=executable, stdout=subprocess.PIPE, text=True)
    try:
        assert server.stdout is not None
        assert "serves REST on http://0.0.0.0:" in server.stdout.readline()
        python = shutil.which(health[0], path=env["PATH"])
        assert python == str(installed / "bin" / "python")
        healthy = subprocess.run([python, *health[1:]], env=env, capture_output=True, text=True)
        assert (healthy.returncode, healthy.stdout, healthy.stderr) == (0, "", "")
        assert httpx.post(f"http://127.0.0.1:{port}/v1/topics/t/tasks/1", json={}).status_code == 201
        assert (data / "ratus.db").exists()
        server.terminate()
        assert server.wait(GRACE + STOP_SECONDS) == 0
        ill = subprocess.run([python, *health[1:]], env=env, capture_output=True, text=True)
        assert ill.returncode == 1
        assert "refused" in ill.stderr
    finally:
        server.kill()
        server.wait()
        server.stdout.close()
        shutil.rmtree(installed)  # pytest would keep it for three runs
