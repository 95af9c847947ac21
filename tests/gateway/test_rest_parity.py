"""The recorded scenarios of the original, played against a real server."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from rest_server import Rest

PARITY = Path(__file__).parents[3] / "shared" / "parity"


@pytest.mark.skipif(not PARITY.is_dir() and "CI" not in os.environ, reason=f"no recorded scenarios at {PARITY}")
def test_parity(rest: Rest) -> None:
    played = subprocess.run(
        [sys.executable, PARITY / "replay.py", rest.url, PARITY / "open.json"], capture_output=True, text=True
    )
    assert played.returncode == 0, played.stdout + played.stderr
