"""The tools that judge the files in `deploy/`, and what they are compared with."""

import os
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

import ratus
from ratus.cli import cli

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
IMAGE = f"ratus:{ratus.__version__}"

_DEBIAN = ROOT / ".cache" / "prometheus" / "usr" / "bin"  # where `make promtool` puts it
_PYTHON = Path(sys.executable).parent


def need(name: str) -> str:
    """The path of a tool; skip the test where there is none, but fail it in CI."""
    path = shutil.which(name, path=os.pathsep.join([str(_PYTHON), str(_DEBIAN), os.environ.get("PATH", "")]))
    if path is None:
        if os.environ.get("CI"):
            pytest.fail(f"{name} is missing")
        pytest.skip(f"NOT TESTED without {name}")
    return path


def documents(path: Path) -> list[dict[str, Any]]:
    """What a file of YAML holds."""
    return list(yaml.safe_load_all(path.read_text()))


def option_variables() -> set[str]:
    """The environment variables that `ratus serve` has its settings from."""
    context = cli.make_context("ratus", ["serve"])
    command = cli.get_command(context, "serve")
    assert command is not None
    return {str(parameter.envvar) for parameter in command.params if getattr(parameter, "envvar", None)}
