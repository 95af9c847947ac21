"""The page on deployment names what is there."""

import re

from tests.deploy.tools import DEPLOY, IMAGE, documents, option_variables
from tests.server import run

TEXT = (DEPLOY / "README.md").read_text()


def test_links_lead_somewhere() -> None:
    links = re.findall(r"\]\(([^)]+)\)", TEXT)
    assert links
    for link in links:
        assert (DEPLOY / link).exists(), link


def test_commands_name_what_is_there() -> None:
    files = re.findall(r"deploy/[\w./-]+", TEXT)
    assert files
    for file in files:
        assert (DEPLOY.parent / file).is_file(), file
    assert set(re.findall(r"ratus:\d\S*", TEXT)) == {IMAGE}


def test_settings_exist() -> None:
    gateway = run("gateway", "--help").stdout
    for name in re.findall(r"`([A-Z]+_[A-Z_]*[A-Z])\b", TEXT):
        assert name in option_variables() or name in gateway or name.startswith("PROBE_"), name


def test_every_alert_is_described() -> None:
    alerts = {
        rule["alert"]
        for group in documents(DEPLOY / "prometheus" / "alerts.yml")[0]["groups"]
        for rule in group["rules"]
    }
    assert set(re.findall(r"\bRatus[A-Z]\w+", TEXT)) == alerts
