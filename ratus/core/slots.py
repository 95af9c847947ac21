"""Slots: the places that consumers keep for the tasks of one claim, a place for a task, given in turn."""

from collections.abc import Sequence
from datetime import datetime
from itertools import islice
from typing import Protocol

from ratus import rules
from ratus.errors import RatusError
from ratus.model import Grant, Task


class Consumer(Protocol):
    """Whoever wants tasks of a topic. None of its methods waits."""

    @property
    def wanted(self) -> int:
        """The number of tasks that somebody is waiting for the answer of; 0 for a stream, which has time."""

    def reserve(self) -> bool:
        """Keep a place for one more task of the claim that is put together now; whether there was one."""

    def grant(self, now: datetime) -> Grant:
        """What the promise for one task sets on it."""

    def deliver(self, tasks: list[Task], unused: int) -> list[Task]:
        """Take tasks, and back the places that were kept for more; give back tasks that cannot be taken."""

    def dry(self) -> None:
        """The topic had no due task."""

    def fail(self, error: RatusError, unused: int) -> None:
        """A claim failed; take back the places that were kept for it."""


def grants_of(slots: Sequence[Consumer], now: datetime) -> list[Grant]:
    """What the promises for the slots set; those for one consumer differ in their nonces alone."""
    first: dict[Consumer, Grant] = {}
    grants: list[Grant] = []
    for slot in slots:
        like = first.get(slot)
        if like is None:
            grant = first[slot] = slot.grant(now)
        else:
            grant = Grant(rules.new_nonce(), like.consumer, like.consumed, like.deadline, like.request)
        grants.append(grant)
    return grants


def meeting(tasks: Sequence[Task], grants: Sequence[Grant], slots: list[Consumer]) -> list[Consumer]:
    """The slots in the order of the tasks that carry their promises, then those that have got none.

    Any grant may have got none: other processes may have taken the task that was meant for it.
    """
    if [task.nonce for task in tasks] == [grant.nonce for grant in grants[: len(tasks)]]:
        return slots
    left = {grant.nonce: slot for grant, slot in zip(grants, slots, strict=True)}
    return [*[left.pop(task.nonce) for task in tasks], *left.values()]


def reserve(consumers: list[Consumer], most: int) -> list[Consumer]:
    """One place of every consumer in turn, until none has room."""
    slots: list[Consumer] = []
    turn = consumers
    while turn and len(slots) < most:
        if len(turn) == 1:
            [consumer] = turn
            while len(slots) < most and consumer.reserve():
                slots.append(consumer)
            break
        room = most - len(slots)
        turn = list(islice((consumer for consumer in turn if consumer.reserve()), room))
        slots += turn
    return slots
