"""The Kubernetes manifests: by the schemas of Kubernetes, and whether their parts fit together and to the server."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import kubernetes_validate
import pytest

from ratus.app import GRACE
from tests.app.conftest import Start, start  # noqa: F401 (a fixture)
from tests.deploy.tools import DEPLOY, IMAGE, documents, option_variables

FILES = sorted((DEPLOY / "kubernetes").glob("*.yaml"))
WORKLOADS = ("StatefulSet", "Deployment")
PROBES = ("startupProbe", "livenessProbe", "readinessProbe")

Manifest = dict[str, Any]


@pytest.fixture(params=FILES, ids=lambda path: path.name)
def manifests(request: pytest.FixtureRequest) -> list[Manifest]:
    return documents(request.param)


def of_kind(manifests: list[Manifest], *kinds: str) -> list[Manifest]:
    return [manifest for manifest in manifests if manifest["kind"] in kinds]


def workload(manifests: list[Manifest]) -> Manifest:
    (one,) = of_kind(manifests, *WORKLOADS)
    return one


def container(manifests: list[Manifest]) -> Manifest:
    (one,) = workload(manifests)["spec"]["template"]["spec"]["containers"]
    return dict(one)


def paths(path: Path) -> Iterator[str]:
    """The paths that probes ask for."""
    probed = container(documents(path))
    return (probed[name]["httpGet"]["path"] for name in PROBES if name in probed)


def test_there_is_one_way_for_each_engine() -> None:
    kinds = {path.name: workload(documents(path))["kind"] for path in FILES}
    assert kinds == {"mongodb.yaml": "Deployment", "sqlite.yaml": "StatefulSet"}


def test_the_schemas_are_met(manifests: list[Manifest]) -> None:
    for manifest in manifests:
        kubernetes_validate.validate(manifest, kubernetes_validate.latest_version(), strict=True)


def test_settings_exist(manifests: list[Manifest]) -> None:
    given = {
        manifest["kind"]: manifest.get("data") or manifest["stringData"]
        for manifest in of_kind(manifests, "ConfigMap", "Secret")
    }
    assert given
    for settings in given.values():
        assert set(settings) <= option_variables()
    names = {manifest["kind"]: manifest["metadata"]["name"] for manifest in of_kind(manifests, *given)}
    sources = {
        kind: source[reference]["name"]
        for source in container(manifests)["envFrom"]
        for kind, reference in (("ConfigMap", "configMapRef"), ("Secret", "secretRef"))
        if reference in source
    }
    assert sources == names
    assert workload(manifests)["spec"]["template"]["spec"]["enableServiceLinks"] is False


def test_selectors_and_ports_meet_the_pods(manifests: list[Manifest]) -> None:
    labels = workload(manifests)["spec"]["template"]["metadata"]["labels"]
    ports = {port["name"]: port["containerPort"] for port in container(manifests)["ports"]}
    assert ports == {"http": 8000, "grpc": 50051}
    assert workload(manifests)["spec"]["selector"]["matchLabels"] == labels
    services = of_kind(manifests, "Service")
    assert services
    for service in services:
        assert service["spec"]["selector"] == labels
        assert all(port["targetPort"] in ports for port in service["spec"]["ports"])
    for name in PROBES:
        if name in container(manifests):
            assert container(manifests)[name]["httpGet"]["port"] == "http"


def test_there_is_time_to_drain(manifests: list[Manifest]) -> None:
    leaving = container(manifests).get("lifecycle", {}).get("preStop", {}).get("exec", {}).get("command", ["sleep", 0])
    spec = workload(manifests)["spec"]["template"]["spec"]
    assert spec["terminationGracePeriodSeconds"] > int(leaving[1]) + GRACE


def test_pods_may_do_little(manifests: list[Manifest]) -> None:
    spec = workload(manifests)["spec"]["template"]["spec"]
    assert spec["securityContext"]["runAsNonRoot"]
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container(manifests)["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert container(manifests)["image"] == IMAGE


def test_what_is_mounted_is_there(manifests: list[Manifest]) -> None:
    spec = workload(manifests)["spec"]
    volumes = {volume["name"] for volume in spec["template"]["spec"]["volumes"]}
    volumes |= {claim["metadata"]["name"] for claim in spec.get("volumeClaimTemplates", ())}
    assert {mount["name"] for mount in container(manifests)["volumeMounts"]} == volumes


def test_one_process_has_the_file_and_several_have_a_budget() -> None:
    sqlite, mongodb = (
        documents(DEPLOY / "kubernetes" / "sqlite.yaml"),
        documents(DEPLOY / "kubernetes" / "mongodb.yaml"),
    )
    assert workload(sqlite)["spec"]["replicas"] == 1
    assert workload(sqlite)["spec"]["serviceName"] in {of["metadata"]["name"] for of in of_kind(sqlite, "Service")}
    (budget,) = of_kind(mongodb, "PodDisruptionBudget")
    assert budget["spec"]["maxUnavailable"] < workload(mongodb)["spec"]["replicas"]
    assert budget["spec"]["selector"] == workload(mongodb)["spec"]["selector"]


def test_the_server_answers_the_probes(start: Start) -> None:  # noqa: F811
    asked = {path for file in FILES for path in paths(file)}
    assert asked == {"/livez", "/readyz"}
    server = start("--engine", "memory")
    for path in asked:
        assert httpx.get(server.url + path).status_code == 200
