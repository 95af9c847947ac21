"""The machine that drives a service and the contract through the same calls, by a clock that it moves."""

import asyncio
from datetime import timedelta
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import Bundle, initialize, multiple, precondition, rule

from ratus.model import ClaimRequest, Commit, Extension, Hold, Promise, Task, TaskInput
from tests.model import draws
from tests.model.contract import EXISTS, REFUSED, applied, end_of
from tests.model.driving import outcome
from tests.model.model import STALE
from tests.model.service_reads import Reads

GIVEN = st.tuples(draws.IDS, st.sampled_from(["", "", "given"]))  # who never had a promise


class ServiceMachine(Reads):
    """One service, as both faces call it."""

    promises: Bundle[Hold] = Bundle("promises")
    ids = draws.IDS | promises.map(lambda hold: hold.id)
    holders = promises.map(lambda hold: (hold.id, hold.nonce)) | GIVEN
    requests: Bundle[ClaimRequest] = Bundle("requests")

    @initialize(tasks=st.lists(draws.due_tasks(), max_size=8))
    def begin(self, tasks: list[Task]) -> None:
        self.insert([TaskInput(id=task.id, topic=task.topic, scheduled=task.scheduled) for task in tasks])

    @rule(step=draws.STEPS)
    def move(self, step: timedelta) -> None:
        self.clock.now += step

    @rule(tasks=st.lists(draws.task_inputs(), max_size=4))
    def insert(self, tasks: list[TaskInput]) -> None:
        given = [draws.shifted(task, self.clock.gone) for task in tasks]
        if len(given) == 1:
            result: Any = self.run(self.service.insert_task(given[0]))
            expected = self.model.insert_given(given, self.clock.now)
            assert result == (expected if expected.created else EXISTS)
        else:
            result = self.run(self.service.insert_tasks(given))
            assert result == self.model.insert_given(given, self.clock.now)

    @rule(tasks=st.lists(draws.task_inputs(), max_size=3))
    def upsert(self, tasks: list[TaskInput]) -> None:
        given = [draws.shifted(task, self.clock.gone) for task in tasks]
        if len(given) == 1:
            result = self.run(self.service.upsert_task(given[0]))
        else:
            result = self.run(self.service.upsert_tasks(given))
        assert result == self.model.upsert_given(given, self.clock.now)

    @rule(target=requests, request=draws.claims())
    def want(self, request: ClaimRequest) -> ClaimRequest:
        return request

    @rule(target=promises, request=requests | draws.claims(), again=st.booleans())
    def claim(self, request: ClaimRequest, again: bool) -> Any:
        """Once, or repeated at once, or some time later since requests are kept."""
        return multiple(*self._claim(request), *(self._claim(request) if again else []))

    def _claim(self, request: ClaimRequest) -> list[Hold]:
        result: Any = self.run(self.service.claim_tasks(request))
        self.model.check_claimed(request, self.clock.now, result)
        return [] if isinstance(result, str) else [Hold(task.id, task.nonce) for task in result]

    @rule(
        target=promises,
        topic=st.sampled_from(["t", "t", "u"]),
        limit=st.integers(1, 3),
        request_id=st.sampled_from(["", "w"]),
        inserted=st.lists(draws.due_tasks() | draws.stored_tasks(), min_size=1, max_size=3),
        how=st.sampled_from(["insert", "insert", "upsert", "commit", "release", "delete_promise", "delete_promises"]),
    )
    def claim_that_waits(self, topic: str, limit: int, request_id: str, inserted: list[Task], how: str) -> Any:
        """A claim waits for the first task, which something else brings, or it is given up."""
        request = ClaimRequest(topic=topic, limit=limit, wait=timedelta(minutes=10), request_id=request_id)
        if self.model.requested(repr((topic, "", request_id))):
            return multiple()
        now = self.clock.now
        tasks = [TaskInput(id=task.id, topic=task.topic, scheduled=task.scheduled) for task in inserted]
        taken = self._claim(ClaimRequest(topic=topic, limit=1000))
        hold = taken[0] if taken else Hold(tasks[0].id, "")

        def bring() -> None:
            match how:
                case "insert":
                    self.insert(tasks)
                case "upsert":
                    self.upsert(tasks)
                case "commit":
                    self.commit(Commit(id=hold.id, nonce=hold.nonce, state=0, topic=topic))
                case "release":
                    self.release(taken[:1])
                case "delete_promise":
                    self.delete_promise(hold, named=True)
                case _:
                    self.delete_promises(topic)

        waiting = self.runner.run(self._waiting(request))
        bring()
        claimed = self.runner.run(self._answer(waiting, come=bool(self.model.due(topic, now))))
        if claimed is not None:
            self.model.check_claimed(request, now, claimed)
        return multiple(*taken, *(Hold(task.id, task.nonce) for task in claimed or []))

    async def _waiting(self, request: ClaimRequest) -> asyncio.Task[list[Task]]:
        """A claim that has found nothing yet."""
        claim = asyncio.create_task(self.service.claim_tasks(request))
        async with asyncio.timeout(self.patience):
            while not (await self.service.get_topic_stats(request.topic)).waiting_consumers:  # noqa: ASYNC110
                await asyncio.sleep(0)
        return claim

    async def _answer(self, claim: asyncio.Task[list[Task]], *, come: bool) -> list[Task] | None:
        """What a claim that waited has got, if there was something to get; else it is given up."""
        if come:
            try:
                return await asyncio.wait_for(claim, self.patience)
            except TimeoutError:
                raise AssertionError("a claim that waits has missed a task") from None
        claim.cancel()
        await asyncio.wait([claim])
        assert claim.cancelled(), "answered though nothing was due"
        return None

    @rule(
        target=promises,
        promise=st.builds(Promise, id=ids, consumer=draws.NAMES, deadline=draws.NO_MOMENT, timeout=draws.NO_DURATION),
        force=st.booleans(),
    )
    def promise(self, promise: Promise, force: bool) -> Any:
        promise = draws.shifted(promise, self.clock.gone)
        call = self.service.upsert_promise if force else self.service.insert_promise
        result = self.run(call(promise))
        self.model.check_promised(promise, self.clock.now, result, force=force)
        return Hold(result.id, result.nonce) if isinstance(result, Task) else multiple()

    @rule(commit=draws.commits(holders))
    def commit(self, commit: Commit) -> None:
        commit = draws.shifted(commit, self.clock.gone)
        result = self.run(self.service.commit_task(commit))
        assert result == self.model.commit(applied(commit, self.clock.now))

    @rule(
        commits=st.lists(draws.commits(holders), max_size=1) | st.lists(draws.commits(holders), min_size=3, max_size=5),
        return_tasks=st.booleans(),
    )
    def commit_several(self, commits: list[Commit], return_tasks: bool) -> None:
        """Each has its own outcome: a stale nonce or a missing task fails no other."""
        commits = [draws.shifted(commit, self.clock.gone) for commit in commits]
        results = self.run(self.service.commit_tasks(commits, return_tasks))
        expected = [self.model.commit(applied(commit, self.clock.now)) for commit in commits]
        if not return_tasks:
            expected = [None if isinstance(result, Task) else result for result in expected]  # type: ignore[misc]
        assert [outcome(result) for result in results] == expected

    @rule(
        extensions=st.lists(
            st.builds(
                lambda hold, **end: Extension(id=hold.id, nonce=hold.nonce, **end),
                promises,
                deadline=draws.NO_MOMENT,
                timeout=draws.NO_DURATION,
            ),
            max_size=3,
        )
    )
    def extend(self, extensions: list[Extension]) -> None:
        given = [draws.shifted(extension, self.clock.gone) for extension in extensions]
        results = self.run(self.service.extend_promises(given))
        now = self.clock.now
        ends = [Extension(id=each.id, nonce=each.nonce, deadline=end_of(each, now)) for each in given]
        assert [outcome(result) for result in results] == [None if self.model.extend(end) else STALE for end in ends]

    @rule(holds=st.lists(promises, max_size=3))
    def release(self, holds: list[Hold]) -> None:
        if not all(hold.nonce for hold in holds):
            return
        results = self.run(self.service.release_promises(holds))
        expected = [STALE if self.model.release(hold) is None else None for hold in holds]
        assert [outcome(result) for result in results] == expected

    @rule(hold=promises | st.builds(Hold, draws.IDS, st.just("")), named=st.booleans())
    def delete_promise(self, hold: Hold, named: bool) -> None:
        nonce = hold.nonce if named else ""
        freed = self.model.delete_promise(hold.id, nonce)
        assert self.run(self.service.delete_promise(hold.id, nonce)) == int(freed is not None)

    @rule(topic=draws.TOPICS)
    def delete_promises(self, topic: str) -> None:
        freed = self.model.free(lambda task: task.topic == topic)
        assert self.run(self.service.delete_promises(topic)) == len(freed)

    @precondition(lambda self: len(self.model.tasks) > 5)  # or else there would hardly be tasks
    @rule(id=st.none() | draws.IDS, topic=draws.TOPICS, state=st.none() | st.integers(0, 3))
    def delete(self, id: str | None, topic: str, state: int | None) -> None:
        """A task, or those of a topic."""
        if id is not None:
            assert self.run(self.service.delete_task(id)) == self.model.delete(lambda task: task.id == id)
        else:
            deleted = self.model.delete(lambda task: task.topic == topic and state in (None, task.state))
            assert self.run(self.service.delete_tasks(topic, state)) == deleted

    @rule(step=st.sampled_from([0, 1, 400, 700, 1000, 3000]).map(lambda step: step * draws.MS))
    def recover(self, step: timedelta) -> None:
        """So much later."""
        self.clock.now += step
        self.run(self.service.recover())
        self.model.free(lambda task: task.deadline is not None and task.deadline < self.clock.now)

    @rule()
    def expire(self) -> None:
        self.run(self.service.expire())
        if self.expires:
            self.model.expire(self.clock.now)

    @rule(
        good=st.lists(draws.task_inputs(), min_size=1, max_size=3),
        bad=draws.bad_inputs(),
        upsert=st.booleans(),
    )
    def insert_malformed(self, good: list[TaskInput], bad: TaskInput, upsert: bool) -> None:
        """One malformed entry fails all: that nothing is stored shows after the step."""
        calls = self.service.upsert_tasks if upsert else self.service.insert_tasks
        assert self.run(calls([*good, bad])) in (REFUSED, "TooLarge")

    @rule(hold=promises, topic=draws.TOPICS)
    def refused(self, hold: Hold, topic: str) -> None:
        """Of what is malformed nothing is done, also where the rest would do something."""
        good = Commit(id=hold.id, nonce=hold.nonce)
        for bad in ({"state": 4}, {"payload": b"{"}, {"topic": "\0"}, {"defer": timedelta(days=3_000_000)}):
            commit = Commit(id=hold.id, nonce=hold.nonce, **bad)
            assert self.run(self.service.commit_task(commit)) == REFUSED
            assert self.run(self.service.commit_tasks([good, commit], False)) == REFUSED
        extension = Extension(id=hold.id, nonce=hold.nonce)
        assert self.run(self.service.extend_promises([extension, Extension(id=hold.id)])) == REFUSED
        assert self.run(self.service.release_promises([hold, Hold(hold.id, "")])) == REFUSED
        for limits in ({"limit": -1}, {"limit": 1001}, {"wait": timedelta(hours=1)}, {"request_id": "\0"}):
            assert self.run(self.service.claim_tasks(ClaimRequest(topic=topic, **limits))) == REFUSED
        assert self.run(self.service.claim_tasks(ClaimRequest(topic=""))) == REFUSED
        assert self.run(self.service.delete_tasks(topic, 4)) == REFUSED
