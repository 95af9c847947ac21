"""Compares what the clients wrote down with the storage, a window of tasks at a time."""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from ratus.model import TaskState
from tests.reliability.checker import Finding, check
from tests.reliability.hands import CALL_SECONDS
from tests.reliability.history import Claim, Commit, Delivery, History, Outcome, Span, Stored
from tests.reliability.report import Report
from tests.reliability.soak.log import WINDOW, Claims, read, read_claims, window_of, windows
from tests.reliability.soak.mixture import KINDS


def judge(
    directory: Path, stored: Mapping[str, Stored], retention: float, ended: float, killed: Mapping[str, float]
) -> Report:
    """All that is wrong; tasks that were completed longer than `retention` ms before `ended` may be gone.

    `killed` are the processes of consumers, and when: what they did at that moment is of unknown outcome.
    """
    report = Report()
    parts: dict[str, dict[str, Stored]] = defaultdict(dict)
    for id, task in stored.items():
        parts[window_of(id)][id] = task
    claims = _claims(directory, killed)
    for window in sorted({*windows(directory), *parts}, key=int):
        print(f"judges tasks from {int(window) * WINDOW:,} on", flush=True)
        history = read(directory, window, claims)
        _add_unknown_commits(history, killed)
        there = parts[window]
        there.update(_expired(history, there, ended - retention))
        report.close(replace(history, claims=[]), check(history, there))
        report.found([Finding("not done", task.id, f"it is in state {task.state}") for task in _undone(there)])
    report.close(History(claims=list(claims.values())), [])
    return report


def _claims(directory: Path, killed: Mapping[str, float]) -> Claims:
    """Those of killed processes ended then, and some of them may have lost their answers."""
    claims = read_claims(directory)
    for claim in claims.values():
        if (moment := killed.get(_process(claim.consumer))) is not None:
            claim.span.end = min(claim.span.end, moment)
    for process, moment in killed.items():
        for kind in KINDS:
            for number in range(kind.consumers):
                consumer, begin = f"{process}-{kind.topic}-{number}", moment - CALL_SECONDS * 1000
                claims[consumer, begin] = Claim(consumer, (kind.topic,), Span(begin, moment))
    return claims


def _process(consumer: str) -> str:
    return consumer.partition("-")[0]


def _add_unknown_commits(history: History, killed: Mapping[str, float]) -> None:
    """A consumer that was killed may have committed what it was handed."""
    known = {commit.nonce for commit in history.commits}
    for one in history.deliveries:
        if _process(one.consumer) in killed and one.nonce not in known:
            span = Span(one.received, killed[_process(one.consumer)])
            history.commits.append(Commit(one.id, one.nonce, f'"{one.nonce}"', span))


def _expired(history: History, there: Mapping[str, Stored], before: float) -> dict[str, Stored]:
    """Tasks that may have been deleted in their time, as they were then: completed by a call that may have done so."""
    handed: dict[str, Delivery] = {one.nonce: one for one in history.deliveries}
    found: dict[str, Stored] = {}
    for commit in sorted(history.commits, key=lambda commit: commit.span.outcome is Outcome.OK):  # that is certain
        promise = handed.get(commit.nonce)
        if commit.id in there or promise is None or commit.span.outcome is Outcome.REFUSED:
            continue
        if promise.consumed < before:
            found[commit.id] = Stored(
                commit.id,
                promise.topic,
                TaskState.COMPLETED,
                nonce="",
                consumer=promise.consumer,
                scheduled=promise.scheduled,
                consumed=promise.consumed,
                payload=commit.payload,
            )
    return found


def _undone(there: Mapping[str, Stored]) -> list[Stored]:
    """At the end of a run everything was waited for."""
    return [task for task in there.values() if task.state != TaskState.COMPLETED]
