"""The Prometheus configuration, the alerts and the dashboard: by Prometheus, and against what a server exposes."""

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import promql_parser
import pytest
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.cog.plugins import register_default_plugins
from grafana_foundation_sdk.models.dashboard import Dashboard
from promql_parser import AggregateExpr, Expr, VectorSelector

from tests.deploy.tools import DEPLOY, documents, need
from tests.deploy.watching import Prometheus, exposed, prometheus, use
from tests.server import Server

ALERTS = DEPLOY / "prometheus" / "alerts.yml"
CASES = Path(__file__).parent / "alerts.test.yml"
DASHBOARD = json.loads((DEPLOY / "grafana" / "dashboards" / "ratus.json").read_text())
TARGET_LABELS = {"__name__", "job", "instance"}  # Prometheus adds them
VARIABLES = {"$__rate_interval": "10s", "$instance": ".*", "$topic": ".*"}


def rules() -> list[dict[str, Any]]:
    return [rule for group in documents(ALERTS)[0]["groups"] for rule in group["rules"]]


def panels() -> list[dict[str, Any]]:
    return [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]


def chosen(expression: str) -> str:
    """An expression of the dashboard with values for its variables."""
    for name, value in VARIABLES.items():
        expression = expression.replace(name, value)
    assert "$" not in expression
    return expression


def expressions() -> Iterator[tuple[str, str]]:
    """All that are sent to Prometheus, each with what it is for."""
    for rule in rules():
        yield rule["alert"], rule["expr"]
    for panel in panels():
        for target in panel["targets"]:
            yield f"{panel['title']} {target['refId']}", chosen(target["expr"])


EXPRESSIONS = dict(expressions())


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server that has been used."""
    log = tmp_path_factory.mktemp("server") / "log"
    with Server(log, "--engine", "memory", "--chore-interval", "1s") as server:
        use(server)
        yield server


def promtool(*args: str | Path) -> None:
    """Run it to a good end."""
    result = subprocess.run([need("promtool"), *args], capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr


def test_prometheus_accepts_the_configuration() -> None:
    promtool("check", "config", DEPLOY / "prometheus" / "prometheus.yml")


def test_the_alerts_fire_when_they_should() -> None:
    promtool("test", "rules", CASES)


def test_every_alert_has_a_case_where_it_fires_and_one_where_it_does_not() -> None:
    cases = [case for test in documents(CASES)[0]["tests"] for case in test["alert_rule_test"]]
    names = {rule["alert"] for rule in rules()}
    assert {case["alertname"] for case in cases if case.get("exp_alerts")} == names
    assert {case["alertname"] for case in cases if not case.get("exp_alerts")} == names


@pytest.mark.parametrize("purpose", EXPRESSIONS)
def test_what_is_asked_for_is_exposed(server: Server, purpose: str) -> None:
    names = exposed(server)
    labels: set[str] = set()

    def visit(node: Expr) -> None:
        if isinstance(node, VectorSelector):
            assert node.name in names
            known = names[node.name] | TARGET_LABELS
            labels.update(known)
            assert {matcher.name for matcher in node.matchers.matchers} <= known
            assert "job" in {matcher.name for matcher in node.matchers.matchers}

    def visit_groups(node: Expr) -> None:
        if isinstance(node, AggregateExpr) and node.modifier is not None:
            assert set(node.modifier.labels) <= labels

    expression = promql_parser.parse(EXPRESSIONS[purpose])
    promql_parser.walk(expression, visit)
    promql_parser.walk(expression, visit_groups)
    assert labels


@pytest.fixture(scope="module")
def watching(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    """A Prometheus that has seen the server at work."""
    with prometheus(server, tmp_path_factory.mktemp("prometheus")) as running:
        running.until(lambda: bool(running.get("query", query='up{job="ratus"} == 1')["result"]))
        yield running


@pytest.mark.parametrize("panel", panels(), ids=lambda panel: panel["title"])
def test_every_panel_shows_something(watching: Prometheus, panel: dict[str, Any]) -> None:
    for target in panel["targets"]:
        query = chosen(target["expr"])
        watching.until(lambda query=query: bool(watching.get("query", query=query)["result"]))


def test_the_alerts_are_evaluated(watching: Prometheus) -> None:
    def evaluated() -> bool:
        loaded = [rule for group in watching.get("rules")["groups"] for rule in group["rules"]]
        assert {rule["name"] for rule in loaded} == {rule["alert"] for rule in rules()}
        assert all(rule.get("lastError", "") == "" for rule in loaded)
        return all(rule["health"] == "ok" for rule in loaded)

    watching.until(evaluated)


def test_the_variables_of_the_dashboard_have_values(watching: Prometheus, server: Server) -> None:
    lists = {variable["name"]: variable for variable in DASHBOARD["templating"]["list"]}
    assert set(lists) == {"datasource", "instance", "topic"}
    expected = {"instance": f"127.0.0.1:{server.port}", "topic": "t"}
    for name, value in expected.items():
        series, label = lists[name]["definition"].removeprefix("label_values(").removesuffix(")").rsplit(", ", 1)
        watching.until(
            lambda label=label, series=series, value=value: (
                value in watching.get(f"label/{label}/values", **{"match[]": series})
            )
        )


def unknown(given: Any, understood: Any, path: str = "") -> Iterator[str]:
    """The parts of a document that have not been understood."""
    if isinstance(given, dict) and isinstance(understood, dict):
        for name, value in given.items():
            yield from unknown(value, understood.get(name), f"{path}.{name}")
    elif isinstance(given, list) and isinstance(understood, list) and len(given) == len(understood):
        for index, value in enumerate(given):
            yield from unknown(value, understood[index], f"{path}[{index}]")
    elif given != understood:
        yield path


def test_grafana_knows_every_field_of_the_dashboard() -> None:
    register_default_plugins()
    understood = json.loads(JSONEncoder().encode(Dashboard.from_json(DASHBOARD)))
    beyond = set(unknown(DASHBOARD, understood))
    assert {path.rpartition(".")[2] for path in beyond} == {"definition"}  # which Grafana writes, but its models lack


def test_panels_are_laid_out_without_gaps_and_overlaps() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert not cells & taken
        taken |= cells
    assert taken == {(x, y) for x in range(24) for y in range(max(y for _, y in taken) + 1)}
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])


def test_grafana_finds_the_dashboard_and_prometheus() -> None:
    provisioning = DEPLOY / "grafana" / "provisioning"
    (source,) = documents(provisioning / "datasources" / "prometheus.yaml")[0]["datasources"]
    (provider,) = documents(provisioning / "dashboards" / "ratus.yaml")[0]["providers"]
    (compose,) = documents(DEPLOY / "compose.mongodb.yaml")
    services = compose["services"]
    assert source["url"] == "http://prometheus:9090" and "prometheus" in services
    mounted = dict(volume.split(":")[:2] for volume in services["grafana"]["volumes"])
    assert mounted["./grafana/dashboards"] == provider["options"]["path"]
    assert mounted["./grafana/provisioning"] == "/etc/grafana/provisioning"
    home = services["grafana"]["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]
    assert home == f"{provider['options']['path']}/ratus.json"
    (datasource,) = (variable for variable in DASHBOARD["templating"]["list"] if variable["type"] == "datasource")
    assert datasource["query"] == source["type"]
    assert {panel["datasource"]["uid"] for panel in panels()} == {"${datasource}"}
