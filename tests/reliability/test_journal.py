"""A journal tells what its process did, up to the moment in which it died."""

from pathlib import Path

import pytest

from ratus.model import TaskState
from tests.reliability.history import Claim, Commit, Delivery, Extension, History, Insert, Outcome, Release, Span
from tests.reliability.journal import Journal, read_journal

DIED = 9e12


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "journal"


def work(history: History) -> None:
    """A call of each kind, some of which never end."""
    inserts = [Insert("a", "t", '"a"', None, Span()), Insert("b", "t", '"b"', 5, Span())]
    history.inserts += inserts
    inserts[0].span.finish(Outcome.OK)
    inserts[1].span.finish(Outcome.REFUSED, "TASK_EXISTS")
    claim, stream = Claim("c", ("t",), Span(), request="r"), Claim("d", ("t", "u"), Span(), releases=True)
    history.claims += [claim, stream]
    claim.span.finish(Outcome.OK)
    history.deliveries.append(Delivery("a", "t", "n", "c", 1, 2, 3, claim))
    history.commits.append(Commit("a", "n", '"x"', Span(), TaskState.PENDING, 7))
    history.extensions.append(Extension("a", "n", 8, Span()))
    history.releases.append(Release("a", "n", Span()))
    history.releases[0].span.finish(Outcome.UNKNOWN, "TRANSPORT")


def shown(history: History) -> list[str]:
    """The calls, and what is known of each."""
    for span in history.spans():
        span.on_end = None
    return [
        repr(call)
        for calls in (
            history.inserts,
            history.claims,
            history.deliveries,
            history.commits,
            history.extensions,
            history.releases,
        )
        for call in calls
    ]


def test_what_is_written_is_read(path: Path) -> None:
    journal = Journal(path)
    work(journal)
    journal.close()
    found = read_journal(path, None)
    assert found.deliveries[0].claim is found.claims[0]
    assert found.commits[0].span.outcome is Outcome.UNKNOWN
    assert shown(found) == [entry.replace("<TaskState.PENDING: 0>", "0") for entry in shown(journal)]


def test_each_call_is_there_before_it_is_sent(path: Path) -> None:
    journal = Journal(path)
    journal.commits.append(Commit("a", "n", '"x"', Span()))
    assert [commit.nonce for commit in read_journal(path, None).commits] == ["n"]
    journal.close()


def test_a_line_that_is_torn_is_no_call(path: Path) -> None:
    journal = Journal(path)
    work(journal)
    journal.close()
    path.write_bytes(path.read_bytes()[:-5])
    [release] = read_journal(path, None).releases
    assert (release.span.outcome, release.span.error) == (Outcome.UNKNOWN, "")


def test_what_a_stream_of_a_dead_process_held_may_be_given_back(path: Path) -> None:
    journal = Journal(path)
    work(journal)
    journal.close()
    died = read_journal(path, DIED)
    assert [claim.span.end == DIED for claim in died.claims] == [False, True]
