"""What type checkers see of the package."""

import subprocess
import sys
from pathlib import Path

import ratus

SCRIPT = Path(__file__).with_name("user_script.py")
WRONG = """
import ratus

async def main(queue: ratus.Queue) -> None:
    await queue.insert(1)
    await queue.insert("t", dfer="5s")
    queue.subscribe("t", concurency=3)
    [task] = await queue.claim("t")
    task.topic = 5
    ratus.connect_sync().get_task(1)
"""


def check(script: Path, cache: Path) -> subprocess.CompletedProcess[str]:
    """Run mypy as a user does: from elsewhere, with no settings of ours."""
    mypy = [sys.executable, "-m", "mypy", "--strict", "--config-file=", f"--cache-dir={cache / 'cache'}"]
    return subprocess.run([*mypy, str(script)], cwd=cache, capture_output=True, text=True, timeout=110)


def test_a_users_script_is_typed_strictly(tmp_path: Path) -> None:
    assert (Path(ratus.__file__).parent / "py.typed").exists()
    copy = tmp_path / "script.py"
    copy.write_text(SCRIPT.read_text())
    done = check(copy, tmp_path)
    assert done.stdout.startswith("Success"), done.stdout + done.stderr


def test_mistakes_are_seen(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(WRONG)
    lines = {int(line.split(":")[1]) for line in check(script, tmp_path).stdout.splitlines() if ": error:" in line}
    assert lines == {5, 6, 7, 9, 10}
