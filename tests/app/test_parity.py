"""The recorded scenarios of the original, against real processes on every engine, with and without a gateway."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.app.conftest import Start

PARITY = Path(__file__).parents[3] / "shared" / "parity"


@pytest.mark.parametrize("through", ["server", "gateway"])
def test_the_recorded_scenarios(start: Start, engine_args: list[str], through: str) -> None:
    if not PARITY.exists():
        if os.environ.get("CI"):
            pytest.fail(f"the recorded scenarios are missing: {PARITY}")
        pytest.skip(f"NOT TESTED: the recorded scenarios are missing: {PARITY}")
    server = start("--chore-interval", "300ms", *engine_args)
    if through == "gateway":
        server = start("--target", server.target, command="gateway")
    command = [sys.executable, str(PARITY / "replay.py"), server.url, str(PARITY / "open.json")]
    replay = subprocess.run(command, capture_output=True, text=True)
    assert replay.returncode == 0, replay.stdout
    assert replay.stdout.endswith("123 passed, 0 failed\n")
