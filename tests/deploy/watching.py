"""A real Prometheus that scrapes a real server, by our configuration."""

import contextlib
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import httpx
import yaml
from prometheus_client.parser import text_string_to_metric_families

from ratus.v1 import server_service_pb2 as info
from ratus.v1.server_service_pb2_grpc import ServerServiceStub
from tests.deploy.tools import DEPLOY, documents, need
from tests.ports import free_port
from tests.server import Server

SECONDS = 60.0  # that it may take until there is something to see


def use(server: Server) -> None:
    """Have a task pushed, claimed and committed, and make a call by gRPC."""
    with httpx.Client(base_url=server.url, timeout=60) as rest:
        assert rest.post("/v1/topics/t/tasks/1", json={"producer": "p"}).status_code == 201
        assert rest.post("/v1/topics/t/promises?consumer=c").status_code == 200
        assert rest.patch("/v1/topics/t/tasks/1").status_code == 200
        assert rest.delete("/v1/topics/t/tasks/1").status_code == 200
    with grpc.insecure_channel(server.target) as channel:
        ServerServiceStub(channel).GetServerInfo(info.GetServerInfoRequest())


def exposed(server: Server) -> dict[str, set[str]]:
    """The names of the samples that a server exposes, each with those of its labels; `up` is made by Prometheus."""
    names: dict[str, set[str]] = {"up": set()}
    for family in text_string_to_metric_families(httpx.get(server.url + "/metrics", timeout=60).text):
        for sample in family.samples:
            names.setdefault(sample.name, set()).update(sample.labels)
    return names


class Prometheus:
    """Its API, by a client that knows the address."""

    def __init__(self, client: httpx.Client) -> None:
        self._client = client

    def get(self, path: str, **parameters: str) -> Any:
        """The data of an answer; HTTPError if there is none."""
        answer = self._client.get(path, params=parameters)
        answer.raise_for_status()
        return answer.json()["data"]

    def until(self, state: Callable[[], bool]) -> None:
        """Return once it is so; each look is a request, so that this is no busy loop."""
        end = time.monotonic() + SECONDS
        while True:
            with contextlib.suppress(httpx.TransportError, httpx.HTTPStatusError):  # while it starts
                if state():
                    return
            assert time.monotonic() < end, "it has not come to that"
            time.sleep(0.1)


@contextlib.contextmanager
def prometheus(server: Server, directory: Path) -> Iterator[Prometheus]:
    """Run it with our configuration, with this server in place of the name and every second."""
    (config,) = documents(DEPLOY / "prometheus" / "prometheus.yml")
    config["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
    config["rule_files"] = [str(DEPLOY / "prometheus" / name) for name in config["rule_files"]]
    (job,) = config["scrape_configs"]
    assert job.pop("dns_sd_configs") == [{"names": ["ratus"], "type": "A", "port": 8000}]
    job["static_configs"] = [{"targets": [f"127.0.0.1:{server.port}"]}]
    file = directory / "prometheus.yml"
    file.write_text(yaml.safe_dump(config))
    port = free_port()
    command = [need("prometheus"), f"--config.file={file}", f"--storage.tsdb.path={directory / 'tsdb'}"]
    command += [f"--web.listen-address=127.0.0.1:{port}"]
    with (
        (directory / "prometheus.log").open("wb") as log,
        httpx.Client(base_url=f"http://127.0.0.1:{port}/api/v1", timeout=60) as client,
        subprocess.Popen(command, stderr=log, stdout=log) as process,
    ):
        try:
            yield Prometheus(client)
        finally:
            process.kill()
