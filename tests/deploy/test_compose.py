"""The compose files: read by Docker Compose itself, and compared with what is here."""

import json
import os
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from ratus.app import GRACE
from tests.conftest import need_mongod
from tests.deploy.tools import DEPLOY, IMAGE, ROOT, need, option_variables
from tests.mongod import Mongod

FILES = sorted(DEPLOY.glob("compose.*.yaml"))


@pytest.fixture(params=FILES, ids=lambda path: path.name)
def project(request: pytest.FixtureRequest) -> dict[str, Any]:
    """A file as Docker Compose has read and completed it."""
    command = [need("docker-compose"), "--file", str(request.param), "config", "--format", "json"]
    config = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "COMPOSE_ANSI": "never"})
    assert config.returncode == 0, config.stderr
    assert not config.stderr
    project: dict[str, Any] = json.loads(config.stdout)
    return project


def test_there_are_files() -> None:
    assert [path.name for path in FILES] == ["compose.mongodb.yaml", "compose.sqlite.yaml"]


def test_images_have_versions(project: dict[str, Any]) -> None:
    for name, service in project["services"].items():
        image, _, tag = service["image"].rpartition(":")
        assert image and tag not in ("", "latest"), name
        assert (image == "ratus") == ("build" in service)


def test_ratus_is_built_from_here_and_has_settings_that_exist(project: dict[str, Any]) -> None:
    service = project["services"]["ratus"]
    assert service["image"] == IMAGE
    assert Path(service["build"]["context"]) == ROOT
    assert (ROOT / service["build"]["dockerfile"]).is_file()
    assert set(service.get("environment", ())) <= option_variables()
    assert service["read_only"]
    assert int(service["stop_grace_period"].removesuffix("s")) > GRACE


def test_ports_are_for_this_machine_only(project: dict[str, Any]) -> None:
    published = [port for service in project["services"].values() for port in service.get("ports", ())]
    assert {8000, 50051} <= {port["target"] for port in published}
    assert all(port["host_ip"] == "127.0.0.1" for port in published)


def test_what_is_mounted_is_there(project: dict[str, Any]) -> None:
    volumes = [volume for service in project["services"].values() for volume in service.get("volumes", ())]
    assert volumes
    for volume in volumes:
        if volume["type"] == "bind":
            assert Path(volume["source"]).exists()
            assert volume["read_only"]
        else:
            assert volume["source"] in project["volumes"]


def test_the_replica_set_is_initiated_once() -> None:
    need_mongod()
    script = DEPLOY / "mongodb" / "initiate.py"
    with ExitStack() as stack:
        members = [Mongod(replica_set="r") for _ in range(3)]
        for member in members:
            stack.callback(member.close)
            member.start()
        command = [sys.executable, str(script), "r", *(member.address for member in members)]
        for _ in range(2):  # the second time it is one already
            initiated = subprocess.run(command, capture_output=True, text=True, timeout=90)
            assert (initiated.returncode, initiated.stderr) == (0, "")
            assert initiated.stdout == "the replica set r has a primary\n"
        config = members[0].client.admin.command("replSetGetConfig")["config"]
        assert [member["host"] for member in config["members"]] == [member.address for member in members]


def test_servers_of_another_set_are_refused() -> None:
    need_mongod()
    with ExitStack() as stack:
        member = Mongod(replica_set="r")
        stack.callback(member.close)
        member.start()
        command = [sys.executable, str(DEPLOY / "mongodb" / "initiate.py"), "other", member.address]
        refused = subprocess.run(command, capture_output=True, text=True, timeout=90)
        assert refused.returncode == 1
        assert refused.stderr.startswith("the replica set could not be initiated:")
        assert "Traceback" not in refused.stderr
