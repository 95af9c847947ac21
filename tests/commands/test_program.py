"""The program as a whole: what it loads, its help, its completion."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from ratus.cli import cli
from ratus.commands.failures import Exit
from tests.commands.conftest import PROGRAM, Ratus
from tests.server import run


def loaded(code: str) -> set[str]:
    result = subprocess.run(
        [sys.executable, "-c", f"{code}\nimport sys; print(*sys.modules)"], capture_output=True, text=True, check=True
    )
    return set(result.stdout.split())


def test_nobody_pays_for_what_others_need() -> None:
    heavy = {"grpc", "fastapi", "uvicorn", "rich", "pymongo", "apsw", "ratus.client", "ratus.rpc"}
    listing = "from ratus.cli import cli; import click; cli.get_help(click.Context(cli, info_name='ratus'))"
    assert not heavy & loaded(listing)
    serving = loaded("import ratus.cli, ratus.app")
    assert not {"rich", "pymongo", "ratus.client", "ratus.commands.output", "ratus.commands.worker"} & serving


def test_help_tells_all_commands() -> None:
    help = run("--help").stdout
    for name in cli.list_commands(None):  # type: ignore[arg-type]
        assert f"\n  {name} " in help
    assert "..." not in help.split("Commands:")[1]  # every command says in a line what it does
    assert "Exit codes: 0 done" in help


def test_the_docs_name_all_commands_and_exit_codes() -> None:
    text = (Path(__file__).parents[2] / "docs" / "cli.md").read_text()
    for name in cli.list_commands(None):  # type: ignore[arg-type]
        assert f"`{name}`" in text or f"`ratus {name}`" in text
    assert [int(code) for code in re.findall(r"^\| (\d+) \|", text, re.MULTILINE)] == [*Exit, 0]


@pytest.mark.parametrize("name", cli.list_commands(None))  # type: ignore[arg-type]
def test_every_command_has_help(ratus: Ratus, name: str) -> None:
    help = ratus(name, "--help").output
    assert f"ratus {name}" in help.replace("Usage: cli", "Usage: ratus")
    assert "Example" in help
    assert "\\b" not in help
    assert "\x08" not in help


@pytest.mark.parametrize(
    ("shell", "words"), [("bash", "complete -o"), ("zsh", "#compdef ratus"), ("fish", "complete ")]
)
def test_completion(ratus: Ratus, shell: str, words: str) -> None:
    script = ratus("completion", shell).output
    assert words in script
    assert "_RATUS_COMPLETE=" in script
    env = {
        **ratus.env,
        "_RATUS_COMPLETE": f"{shell}_complete",
        "COMP_WORDS": "ratus de",
        "COMP_CWORD": "de" if shell == "fish" else "1",
    }
    result = subprocess.run(PROGRAM, env=env, capture_output=True, text=True)
    assert "delete" in result.stdout
    assert "export" not in result.stdout
