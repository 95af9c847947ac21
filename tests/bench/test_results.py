"""Statistics, table, picture: what the bench tells of what it has measured."""

import re
from contextlib import ExitStack
from pathlib import Path

import pytest

from bench import picture
from bench.contenders import Contender, Failed, Missing, Run, Section, client, compare, has_failed
from bench.results import Row, load, number, ratio, save, table

FLOOR = Row("Speed", "calls/s", "floor: bare", (2000.0, 1000.0, 1500.0), "floor: bare")
OURS = Row("Speed", "calls/s", "SQLite", (300.0, 750.0, 900.0), "floor: bare", "fsync")
ABSENT = Row("Speed", "calls/s", "peer: other", (), "floor: bare", "not installed: apt-get install other")
ALONE = Row("Time", "ms", "SQLite", (0.512, 0.5, 0.625), "SQLite")
ROWS = [FLOOR, OURS, ABSENT, ALONE]


def test_medians_and_ratios() -> None:
    assert FLOOR.median == 1500
    assert ratio(OURS, ROWS) == 0.5
    assert ratio(FLOOR, ROWS) == 1
    assert ratio(ABSENT, ROWS) is None
    assert ratio(OURS, [OURS, ABSENT]) is None


@pytest.mark.parametrize(("value", "told"), [(43210.6, "43,211"), (10.0, "10"), (9.994, "9.99"), (0.05, "0.05")])
def test_numbers(value: float, told: str) -> None:
    assert number(value) == told


def test_the_table() -> None:
    lines = table(ROWS).splitlines()
    assert len({len(line) for line in lines}) == 1
    assert all(line.count("|") == 6 for line in lines)
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    assert [re.sub("-+", "-", cell) for cell in cells[1]] == ["-", "-:", "-:", "-:", "-"]
    assert [row for row in cells if row[0] == "SQLite"] == [
        ["SQLite", "750", "300 – 900", "0.50", "fsync"],
        ["SQLite", "0.51", "0.50 – 0.62", "1.00", ""],
    ]
    assert ["peer: other", "–", "", "", "not installed: apt-get install other"] in cells
    assert [row[0] for row in cells if row[0].startswith("**")] == ["**Speed (calls/s)**", "**Time (ms)**"]


def test_what_is_kept_comes_back(tmp_path: Path) -> None:
    save(tmp_path / "kept.json", {"date": "today"}, ROWS)
    assert load(tmp_path / "kept.json") == ({"date": "today"}, ROWS)


def test_the_picture_shows_what_was_measured(tmp_path: Path) -> None:
    picture.draw(tmp_path / "a.svg", {"machine": "two cores"}, ROWS)
    drawn = (tmp_path / "a.svg").read_text()
    for text in ("Speed (calls/s)", "Time (ms)", "floor: bare", "SQLite", "1,500", "0.51", "two cores"):
        assert f">{text}<" in drawn
    assert "peer: other" not in drawn
    picture.draw(tmp_path / "b.svg", {"machine": "two cores"}, ROWS)
    assert (tmp_path / "b.svg").read_text() == drawn


def test_the_picture_can_be_a_png(tmp_path: Path) -> None:
    picture.draw(tmp_path / "a.png", {}, ROWS)
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")


def test_contenders_take_turns() -> None:
    turns: list[str] = []

    def contender(name: str, value: float) -> Contender:
        def start(stack: ExitStack) -> Run:
            stack.callback(turns.append, f"{name} ends")

            def run() -> list[float]:
                turns.append(name)
                return [value, 10 * value]

            return run

        return Contender(name, start, note="durable")

    rows = compare([Section("Speed", "x"), Section("Memory", "y")], [contender("a", 1), contender("b", 2)], 2)
    assert turns == ["a", "b", "a", "b", "b ends", "a ends"]
    assert rows == [
        Row("Speed", "x", "a", (1, 1), "a", "durable"),
        Row("Speed", "x", "b", (2, 2), "a", "durable"),
        Row("Memory", "y", "a", (10, 10), "a", "durable"),
        Row("Memory", "y", "b", (20, 20), "a", "durable"),
    ]
    assert not has_failed(rows)


def test_who_is_missing_or_fails_does_not_stop_the_others() -> None:
    runs = iter([1.0, 2.0])

    def missing(stack: ExitStack) -> Run:
        raise Missing("apt-get install it")

    def failing(stack: ExitStack) -> Run:
        def run() -> list[float]:
            raise Failed("it broke")

        return run

    contenders = [Contender("m", missing), Contender("f", failing), Contender("w", lambda stack: lambda: [next(runs)])]
    absent, broken, working = compare([Section("Speed", "x")], contenders, 2)
    assert (absent.values, absent.note) == ((), "not installed: apt-get install it")
    assert (broken.values, broken.note) == ((), "failed: it broke")
    assert working.values == (1.0, 2.0)
    assert has_failed([broken])
    assert not has_failed([absent, working])


def test_a_client_that_ends_badly_has_failed() -> None:
    with pytest.raises(Failed, match=r"bench\.load\.unary"):
        client("bench.load.unary", "nonsense", timeout=30)
