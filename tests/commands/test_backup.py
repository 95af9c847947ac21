"""Copies of the file of a server that is under load."""

import os
import threading
from pathlib import Path

from tests.commands.conftest import Ratus
from tests.server import Server


def test_a_copy_under_load_is_complete(tmp_path: Path) -> None:
    with Server(tmp_path / "log", "--sqlite-path", str(tmp_path / "q.db")) as server:
        ratus = Ratus(server.target)
        lines = (f'{{"_id":"{n:06}","topic":"t","payload":"{"x" * 300}"}}\n' for n in range(30_000))
        ratus("import", "-", input="".join(lines))
        done, pushed = threading.Event(), []

        def load() -> None:
            """Pushes in order, so that a copy of one moment has all up to one of them."""
            while not done.is_set():
                lines = (f'{{"_id":"load-{len(pushed):04}-{n:02}","topic":"load"}}\n' for n in range(50))
                process = ratus.start("import", "-", stdin=-1)
                process.communicate("".join(lines))
                assert process.returncode == 0
                pushed.append(len(pushed))

        loading = threading.Thread(target=load)
        loading.start()
        try:
            copies = []
            while len(pushed) < 2 or len(copies) < 3:
                copies.append(tmp_path / f"copy{len(copies)}.db")
                before = len(pushed)
                found = ratus.one("backup", str(copies[-1]))
                assert found["bytes"] == copies[-1].stat().st_size
        finally:
            done.set()
            loading.join()
    assert not [name for name in os.listdir(tmp_path) if name.startswith(".")]
    with Server(tmp_path / "log", "--sqlite-path", str(copies[-1])) as second:
        ratus = Ratus(second.target)
        counts = {topic["name"]: topic["count"] for topic in ratus.lines("topics")}
        assert counts["t"] == 30_000
        assert before * 50 <= counts["load"] <= len(pushed) * 50
        assert counts["load"] % 50 == 0
        assert ratus.one("doctor", "--thorough")["ok"]
        assert ratus.one("claim", "t")["_id"] == "000000"


def test_a_file_is_not_replaced_unasked(ratus: Ratus, tmp_path: Path) -> None:
    file = tmp_path / "copy.db"
    file.write_text("precious")
    assert "--force" in ratus("backup", str(file), code=1).stderr
    assert file.read_text() == "precious"
    ratus("backup", str(file), "--force")
    assert file.read_bytes().startswith(b"SQLite format 3\0")
    assert ratus("backup", "-").stdout_bytes.startswith(b"SQLite format 3\0")
    assert "cannot write" in ratus("backup", str(tmp_path / "no" / "dir.db"), code=1).stderr


def test_nothing_is_left_of_a_copy_that_fails(tmp_path: Path) -> None:
    with Server(tmp_path / "log", "--engine", "memory") as server:
        target = tmp_path / "target"
        target.mkdir()
        result = Ratus(server.target)("backup", str(target / "copy.db"), code=1)
        assert "use export" in result.stderr
        assert os.listdir(target) == []
