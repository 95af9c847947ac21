"""Proves from a history and the final state of the storage that the queue kept its promises.

Each rule yields what it finds wrong. Whatever has an unknown outcome may have happened or not; a rule speaks only
when neither explains what was seen. Consumers are judged by the moment in which they received a task: by then it had
been handed out, whenever the server has stamped it.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import combinations
from math import inf

from ratus.model import TaskState
from tests.reliability.history import Commit, Delivery, Extension, History, Insert, Outcome, Release, Stored

CONTRACT = frozenset(  # the errors that a server may answer with while something is broken
    {
        "",
        "NOT_FOUND",
        "TASK_EXISTS",
        "TASK_NOT_PENDING",
        "NONCE_MISMATCH",
        "STORAGE_UNAVAILABLE",
        "DRAINING",
        "TRANSPORT",
        "WRITING",
    }
)


@dataclass(frozen=True, slots=True)
class Finding:
    """A promise that was not kept."""

    rule: str
    id: str
    text: str


@dataclass(slots=True)
class Life:
    """All that happened to one task."""

    id: str
    history: History
    inserts: list[Insert] = field(default_factory=list)
    deliveries: list[Delivery] = field(default_factory=list)
    commits: list[Commit] = field(default_factory=list)
    extensions: list[Extension] = field(default_factory=list)
    releases: list[Release] = field(default_factory=list)
    stored: Stored | None = None

    def may_have_ended(self, promise: Delivery, moment: float, without: Commit | None = None) -> bool:
        """Whether the promise may have been over then: committed, given back, or beyond its deadline."""
        if any(call.nonce == promise.nonce and _begun(call, moment) for call in self.releases):
            return True
        if any(call.nonce == promise.nonce and call is not without and _begun(call, moment) for call in self.commits):
            return True
        if promise.claim.releases and promise.claim.span.end < moment:
            return True
        _, shown = self.history.shown(promise.claim.span.begin, moment)
        return self._earliest_deadline(promise, moment) < shown

    def _earliest_deadline(self, promise: Delivery, moment: float) -> float:
        """The earliest deadline that the promise may have had then."""
        deadline: float = promise.deadline
        settled = -1.0
        mine = [call for call in self.extensions if call.nonce == promise.nonce and _begun(call, moment)]
        for call in mine:
            if call.span.outcome is Outcome.OK and settled < call.span.end < moment:
                deadline, settled = call.deadline, call.span.end
        others = [call.deadline for call in mine if call.span.end > settled]  # what may have come after it
        return min([deadline, *others])


def check(history: History, stored: Mapping[str, Stored]) -> list[Finding]:
    """Everything that is wrong."""
    lives: dict[str, Life] = {}

    def life(id: str) -> Life:
        return lives.setdefault(id, Life(id, history))

    for insert in history.inserts:
        life(insert.id).inserts.append(insert)
    for delivery in history.deliveries:
        life(delivery.id).deliveries.append(delivery)
    for commit in history.commits:
        life(commit.id).commits.append(commit)
    for extension in history.extensions:
        life(extension.id).extensions.append(extension)
    for release in history.releases:
        life(release.id).releases.append(release)
    for task in stored.values():
        life(task.id).stored = task
    claims = defaultdict(list)
    for claim in history.claims:
        claims[claim.consumer].append(claim)

    findings = [
        Finding("error", "", f"answered {span.error}") for span in history.spans() if span.error not in CONTRACT
    ]
    for one in lives.values():
        for name, rule in RULES.items():
            findings += (Finding(name, one.id, text) for text in rule(one))
        findings += (
            Finding("held by nobody", one.id, text)
            for text in _unexplained_promise(one)
            if not any(
                claim.span.outcome is Outcome.UNKNOWN
                and history.shown(claim.span.begin, inf)[0] - 1 <= (one.stored.consumed or 0)
                for claim in claims[one.stored.consumer if one.stored else ""]
            )
        )
    return findings


def _begun(call: Commit | Release | Extension, moment: float) -> bool:
    """Whether the call may have been applied before."""
    return call.span.begin <= moment and call.span.outcome is not Outcome.REFUSED


def _acknowledged(life: Life) -> list[Commit]:
    return sorted((c for c in life.commits if c.span.outcome is Outcome.OK), key=lambda commit: commit.span.end)


def _lost(life: Life) -> Iterator[str]:
    """Every acknowledged insert is there; so is what was handed out."""
    if life.stored is None:
        if any(insert.span.outcome is Outcome.OK for insert in life.inserts):
            yield "its insert was acknowledged, and it is gone"
        elif life.deliveries:
            yield "it was handed out, and it is gone"


def _appeared(life: Life) -> Iterator[str]:
    """What is stored or handed out was inserted by a call, and once."""
    possible = [insert for insert in life.inserts if insert.span.outcome is not Outcome.REFUSED]
    if not possible and (life.stored or life.deliveries):
        yield "nobody inserted it"
    if sum(insert.span.outcome is Outcome.OK for insert in life.inserts) > 1:
        yield "two inserts of it were acknowledged"
    for insert in life.inserts:
        others = [o for o in possible if o is not insert and o.span.begin <= insert.span.end]
        if insert.span.outcome is Outcome.REFUSED and not others:
            yield "an insert was told that it exists, when nobody else could have inserted it"


def _early(life: Life) -> Iterator[str]:
    """No task is handed out before its time: neither by the server's stamps nor by the clock of who received it."""
    for delivery in life.deliveries:
        if delivery.consumed < delivery.scheduled:
            yield f"scheduled {delivery.scheduled}, stamped {delivery.consumed}"
        _, received = life.history.shown(delivery.claim.span.begin, delivery.received)
        if received < delivery.scheduled:
            yield f"scheduled {delivery.scheduled}, received {received:.0f}"
        times = [
            i.scheduled or life.history.shown(i.span.begin, delivery.received)[0]
            for i in life.inserts
            if i.span.outcome is not Outcome.REFUSED
        ]
        times += [
            commit.scheduled
            for commit in life.commits
            if commit.scheduled is not None and _begun(commit, delivery.received)
        ]
        if times and received < min(times):
            yield f"wanted at {min(times):.0f}, received {received:.0f}"


def _crossed(life: Life) -> Iterator[str]:
    """A consumer is handed tasks of its topics, under its own name."""
    for delivery in life.deliveries:
        if delivery.topic not in delivery.claim.topics or delivery.consumer != delivery.claim.consumer:
            yield f"{delivery.claim.consumer} was handed a task of {delivery.topic} for {delivery.consumer}"


def _twice(life: Life) -> Iterator[str]:
    """No task is handed to a second consumer while a promise holds."""
    order = sorted(life.deliveries, key=lambda delivery: delivery.received)
    for first, second in combinations(order, 2):
        if first.nonce == second.nonce:
            repeated = first.claim.request and first.claim.request == second.claim.request
            if not (repeated and first.consumer == second.consumer):
                yield f"nonce {first.nonce} was handed to {first.consumer} and again to {second.consumer}"
        elif not life.may_have_ended(first, second.received) and not life.may_have_ended(second, first.received):
            yield f"{second.consumer} was handed it {second.received:.0f}, held by {first.consumer} to {first.deadline}"


def _repeated(life: Life) -> Iterator[str]:
    """Every commit with a nonce takes effect at most once."""
    seen = set()
    for commit in _acknowledged(life):
        if commit.nonce in seen:
            yield f"two commits with nonce {commit.nonce} were acknowledged"
        seen.add(commit.nonce)


def _refused(life: Life) -> Iterator[str]:
    """A promise that was told to a consumer holds until something ends it, so that its commit is not refused."""
    by_nonce = {delivery.nonce: delivery for delivery in life.deliveries}
    for commit in life.commits:
        promise = by_nonce.get(commit.nonce)
        if promise is None or commit.span.outcome is not Outcome.REFUSED:
            continue
        if not life.may_have_ended(promise, commit.span.end, without=commit):
            yield f"the commit of {promise.consumer} was refused while its promise held"


def _undone(life: Life) -> Iterator[str]:
    """A task whose completion was acknowledged is not handed out any more."""
    by_nonce = {delivery.nonce: delivery for delivery in life.deliveries}
    for commit in _acknowledged(life):
        promise = by_nonce.get(commit.nonce)
        if promise is None or commit.state != TaskState.COMPLETED:
            continue
        for delivery in life.deliveries:
            if delivery.nonce == commit.nonce or delivery.received <= commit.span.end:
                continue
            _, shown = life.history.shown(min(delivery.claim.span.begin, commit.span.end), commit.span.end)
            later = delivery.claim.span.begin > commit.span.end or delivery.consumed > shown
            if later or not life.may_have_ended(delivery, promise.received):
                yield f"completed {commit.span.end:.0f}, handed out again, received {delivery.received:.0f}"


def _unexplained_end(life: Life) -> Iterator[str]:
    """The task ends as the last acknowledged call has left it, or one of unknown outcome that may have come later."""
    task = life.stored
    if task is None:
        return
    acknowledged = _acknowledged(life)
    possible = [commit for commit in life.commits if commit.span.outcome is Outcome.UNKNOWN]
    ends: list[Insert | Commit] = []
    if acknowledged:
        nonces = {commit.nonce for commit in acknowledged}
        ends += [commit for commit in acknowledged if commit.span.end >= acknowledged[-1].span.begin]
        begin = acknowledged[-1].span.begin
        possible = [commit for commit in possible if commit.span.end >= begin and commit.nonce not in nonces]
    else:
        ends += [insert for insert in life.inserts if insert.span.outcome is not Outcome.REFUSED]
    ends += possible
    mine = [end for end in ends if end.payload == task.payload]
    if ends and not mine:
        yield f"its payload is {task.payload}, of a call that was refused, undone or never made"
    for end in mine:
        state = end.state if isinstance(end, Commit) else TaskState.PENDING
        running = {TaskState.PENDING, TaskState.ACTIVE}
        if task.state != state and not (state == TaskState.PENDING and task.state in running):
            yield f"it is in state {task.state}, and {end.payload} left it in {int(state)}"
        if end.scheduled is not None and end.scheduled != task.scheduled:
            yield f"it is scheduled {task.scheduled}, and {end.payload} had {end.scheduled}"
    if (task.state == TaskState.ACTIVE) != bool(task.nonce):
        yield f"it is in state {task.state} with nonce {task.nonce!r}"


def _unexplained_promise(life: Life) -> Iterator[str]:
    """Tasks that are active with a nonce that nobody was told, or that was given back for certain."""
    task = life.stored
    if task is None or task.state != TaskState.ACTIVE:
        return
    if all(delivery.nonce != task.nonce for delivery in life.deliveries):
        yield f"{task.consumer} holds it, who was not told and can have lost no answer"


def _still_held(life: Life) -> Iterator[str]:
    """A promise whose end was acknowledged is over."""
    task = life.stored
    if task is None or task.state != TaskState.ACTIVE:
        return
    for call in (*life.commits, *life.releases):
        if call.nonce == task.nonce and call.span.outcome is Outcome.OK:
            yield f"it is active with nonce {task.nonce}, whose end was acknowledged"


RULES = {
    "lost": _lost,
    "appeared": _appeared,
    "early": _early,
    "crossed": _crossed,
    "handed out twice": _twice,
    "committed twice": _repeated,
    "refused": _refused,
    "undone": _undone,
    "unexplained end": _unexplained_end,
    "still held": _still_held,
}
