"""The pages keep up with what they describe."""

import re
import urllib.request
from pathlib import Path

from gateway.openapi import document
from ratus.v1 import promise_service_pb2, server_service_pb2, task_service_pb2, topic_service_pb2
from tests.docs.blocks import ROOT
from tests.server import Server

DOCS = ROOT / "docs"
SERVICES = [
    service
    for module in (task_service_pb2, promise_service_pb2, topic_service_pb2, server_service_pb2)
    for service in module.DESCRIPTOR.services_by_name.values()
]


def rows(page: str, column: int) -> list[str]:
    """What stands as code in a column of the tables of a page."""
    lines = [line.split("|") for line in (DOCS / page).read_text().splitlines() if line.startswith("|")]
    return [name for cells in lines for name in re.findall(r"`([^`]+)`", cells[column])]


def test_every_rpc_is_told_whether_it_is_safe_to_repeat() -> None:
    methods = sorted(method.name for service in SERVICES for method in service.methods)
    assert sorted(rows("repeats.md", 1)) == methods


def test_every_endpoint_is_told_whether_it_is_safe_to_repeat() -> None:
    paths = document()["paths"].items()
    endpoints = sorted(f"{method.upper()} {path}" for path, methods in paths for method in methods)
    assert sorted(rows("repeats.md", 2)) == endpoints


def test_every_metric_has_a_meaning(tmp_path: Path) -> None:
    with Server(tmp_path / "log", "--engine", "memory") as server:
        answer = urllib.request.urlopen(f"{server.url}/metrics", timeout=20).read().decode()
    served = set(re.findall(r"^# TYPE (\S+)", answer, re.MULTILINE))
    served = {name for name in served if not name.endswith("_created")}  # when a metric began, which each one has
    assert set(rows("operations/metrics.md", 1)) == served


def test_options_of_the_original_are_options_here() -> None:
    text = (DOCS / "migration" / "ratus.md").read_text()
    [named] = re.findall(r"Those of the original that are here: (.*)\.", text)
    source = (ROOT / "ratus" / "cli.py").read_text()
    options = [name.strip("`").lower().replace("_", "-") for name in named.split(", ")]
    assert options
    assert [option for option in options if f'"{option}"' not in source] == []
