"""What a soak writes down is read as it was, and its judge finds what is wrong."""

from pathlib import Path

import pytest

from ratus.model import TaskState
from tests.reliability.history import Claim, Commit, Delivery, Insert, Outcome, Span, Stored
from tests.reliability.soak.faults import plan
from tests.reliability.soak.judge import judge
from tests.reliability.soak.log import CLAIMS, WINDOW, Log, read, read_claims, task_id, windows
from tests.reliability.soak.meter import Meter

RETENTION = 1000.0
CONSUMER = "consumer1x2-poll-0"
STREAM = Claim(CONSUMER, ("poll",), Span(5))


def inserted(number: int) -> Insert:
    return Insert(task_id(number), "poll", f'"{task_id(number)}"', None, Span(0, 8, Outcome.OK))


def handed(number: int, nonce: str = "n", received: float = 20, consumer: str = CONSUMER) -> Delivery:
    claim = STREAM if consumer == CONSUMER else Claim(consumer, ("poll",), Span(5))
    return Delivery(task_id(number), "poll", nonce, consumer, 0, int(received) - 1, 15_000, claim, received)


def committed(number: int, outcome: Outcome = Outcome.OK, nonce: str = "n") -> Commit:
    return Commit(task_id(number), nonce, f'"{nonce}"', Span(21, 30, outcome))


def stored(number: int, state: TaskState = TaskState.COMPLETED, payload: str = '"n"') -> dict[str, Stored]:
    id = task_id(number)
    return {id: Stored(id, "poll", state, "", CONSUMER, 0, 19, payload)}


def rules(directory: Path, there: dict[str, Stored], ended: float = 100, **killed: float) -> set[str]:
    return {one.rule for one in judge(directory, there, RETENTION, ended, killed).findings}


@pytest.fixture
def log(tmp_path: Path) -> Log:
    return Log(tmp_path, "consumer1x2")


def test_what_was_written_is_read_in_windows(tmp_path: Path, log: Log) -> None:
    last = WINDOW + 1
    calls = [inserted(0), handed(0), committed(0), inserted(last), handed(last), committed(last), STREAM]
    log.write(calls)
    log.close()
    assert windows(tmp_path) == ["0", "1"]
    claims = read_claims(tmp_path)
    assert list(claims.values()) == [STREAM]
    for window, number in (("0", 0), ("1", last)):
        history = read(tmp_path, window, claims)
        assert history.inserts == [inserted(number)]
        assert history.deliveries == [handed(number)]
        assert history.commits == [committed(number)]


def test_a_line_that_was_cut_off_is_left_out(tmp_path: Path, log: Log) -> None:
    log.write([inserted(0)])
    with (tmp_path / "0.consumer1x2").open("ab") as file:
        file.write(b'["c","s0","n",')
    assert read(tmp_path, "0", {}).commits == []


def test_tasks_that_were_deleted_in_their_time_are_not_missed(tmp_path: Path, log: Log) -> None:
    log.write([STREAM, inserted(0), handed(0), committed(0)])
    assert rules(tmp_path, stored(0)) == set()
    assert rules(tmp_path, {}, ended=RETENTION + 50) == set()
    assert rules(tmp_path, {}, ended=RETENTION) == {"lost"}  # too early


def test_what_is_lost_doubled_or_left_over_is_found(tmp_path: Path, log: Log) -> None:
    log.write([STREAM, inserted(0), inserted(1), handed(1), committed(1), handed(1, "m", 40, "consumer2x3-poll-0")])
    there = stored(0, TaskState.PENDING, '"s0"')
    assert rules(tmp_path, there, ended=RETENTION + 50) == {"not done", "undone"}
    assert rules(tmp_path, {}, ended=RETENTION + 50) == {"lost", "undone"}
    assert rules(tmp_path, there | stored(2), ended=RETENTION + 50) >= {"appeared"}


def test_a_consumer_that_was_killed_may_have_committed(tmp_path: Path, log: Log) -> None:
    log.write([STREAM, inserted(0), handed(0)])
    assert "unexplained end" in rules(tmp_path, stored(0))
    assert rules(tmp_path, stored(0), consumer1x2=25) == set()


def test_a_delivery_after_the_end_of_a_stream_that_gives_back(tmp_path: Path, log: Log) -> None:
    giving = Claim(CONSUMER, ("poll",), Span(5), releases=True)
    log.write([giving, inserted(0), handed(0), handed(0, "m", 40, "consumer2x3-poll-0"), committed(0, nonce="m")])
    there = stored(0, payload='"m"')
    assert "handed out twice" in rules(tmp_path, there)
    giving.span.end = 30
    log.write([giving])
    assert rules(tmp_path, there) == set()
    assert (tmp_path / f"{CLAIMS}.consumer1x2").read_bytes().count(b"\n") == 2


def test_percentiles_of_several_processes() -> None:
    whole = Meter()
    for part in range(2):
        meter = Meter()
        for milliseconds in range(part, 1000, 2):
            meter.took("insert", milliseconds)
        whole.add(meter)
    found = whole.percentiles("insert")
    assert found is not None
    assert [round(one / 1000, 2) for one in found] == pytest.approx([0.5, 0.99, 1.0], rel=0.03)
    assert whole.percentiles("claim") is None


def test_the_server_is_killed_in_the_first_third() -> None:
    names = [name for name, _ in plan(15, mongodb=True)]
    assert len(names) == 15
    assert set(names[:5]) == {"server killed", "freeze", "consumer killed", "streams dropped", "step-down"}
    assert set(names[5:]) == {"freeze", "consumer killed", "streams dropped", "step-down"}
    assert plan(1, mongodb=False)[0][0] == "server killed"
