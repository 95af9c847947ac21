"""The network between server and MongoDB, and between the members of a set, is slow, cut, half-open or parted."""

import asyncio
import contextlib
import random
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from pathlib import Path

from tests.mongod import Mongod, initiate, new_directory, replica_set
from tests.reliability.databases import CLIENT, MEMBERS, Set, under_load, until_all_follow
from tests.reliability.history import History, clock
from tests.reliability.kills import BUSY_SECONDS
from tests.reliability.links import Link, Pace, Way
from tests.reliability.load import ANSWER_SECONDS, Load, resumed, served
from tests.reliability.report import Report

SLOW = Pace(0.05, 0.5)
TRICKLE = Pace(0.001, 0.005, 100)
CUT_SECONDS = (1.0, 5.0)  # least and most that the fault lasts
SILENT_SECONDS = (5.0, 20.0)
BACK_SECONDS = 2 * ANSWER_SECONDS  # until we give up; what it takes is measured


async def network(
    directory: Path,
    rounds: int,
    seed: int,
    ways: Sequence[str] = (),
    silent_seconds: tuple[float, float] = SILENT_SECONDS,
) -> Report:
    """One link at fault between the server and its one mongod, in each way in turn."""
    dice, history, report = random.Random(seed), History(), Report()
    names = ways or tuple(NETWORK)
    with replica_set(1, within=directory) as (member,):
        link = Link(member.port, random.Random(seed))
        await link.open()
        uri = f"mongodb://{link.address}/?directConnection=true&appName={CLIENT}"
        try:
            async with under_load(directory, uri, seed, history, report) as load:
                for number in range(rounds):
                    name = names[number % len(names)]
                    await asyncio.sleep(dice.random() * BUSY_SECONDS)
                    seconds = dice.uniform(*(CUT_SECONDS if name == "cut" else silent_seconds))
                    report.fault(name, **await NETWORK[name](link, seconds, history, load))
        finally:
            await link.close()
    return report


Times = dict[str, float]
Fault = Callable[[Link, float, History, Load], Awaitable[Times]]


async def _back(history: History, load: Load, since: float) -> Times:
    """How long after `since` the service answered again and its streams were handed tasks."""
    times, streams = await asyncio.gather(
        served(history, since, BACK_SECONDS), resumed(history, load.streams, since, BACK_SECONDS)
    )
    return {**times, "streams": streams}


def _slow(pace: Pace) -> Fault:
    """Slow is no reason not to serve: what is measured is measured meanwhile."""

    async def fault(link: Link, _: float, history: History, load: Load) -> Times:
        link.slow(pace)
        began = clock()
        times = await _back(history, load, began)
        link.heal()
        return times

    return fault


async def _cut(link: Link, seconds: float, history: History, load: Load) -> Times:
    await link.refuse()
    await asyncio.sleep(seconds)  # of the fault
    await link.open()
    return await _back(history, load, clock())


def _silent(*ways: Way) -> Fault:
    async def fault(link: Link, seconds: float, history: History, load: Load) -> Times:
        link.vanish(*ways)
        await asyncio.sleep(seconds)  # of the fault
        link.heal()
        return await _back(history, load, clock())

    return fault


def _forgotten(share: float) -> Fault:
    async def fault(link: Link, _: float, history: History, load: Load) -> Times:
        link.forget(share)
        return await _back(history, load, clock())

    return fault


NETWORK: dict[str, Fault] = {
    "slow": _slow(SLOW),
    "trickle": _slow(TRICKLE),
    "cut": _cut,
    "deaf": _silent(Way.ASKED),
    "mute": _silent(Way.ANSWERED),
    "silent": _silent(*Way),
    "forgotten": _forgotten(1),
    "half forgotten": _forgotten(0.5),
}


class Parted:
    """The links of a replica set, and how its primary is parted from others."""

    def __init__(self, members: Sequence[Mongod], seed: int) -> None:
        self._members = members
        self.links = [Link(member.port, random.Random(seed), self._pids) for member in members]

    def _pids(self) -> set[int]:
        return {member.pid for member in self._members}

    def from_members(self, primary: Mongod) -> None:
        """It and the others cannot reach each other; the server reaches all."""
        for member, link in zip(self._members, self.links, strict=True):
            if member is primary:
                link.cut_off(lambda owner: owner is not None)
            else:
                link.cut_off(lambda owner: owner == primary.pid)

    def from_server(self, primary: Mongod) -> None:
        """The members reach each other."""
        self._link(primary).cut_off(lambda owner: owner is None)

    def from_all(self, primary: Mongod) -> None:
        """Nobody reaches it, and it reaches no other member."""
        self.from_members(primary)
        self._link(primary).cut_off(lambda _: True)

    def silently(self, primary: Mongod) -> None:
        """What is sent to it, and its answers, vanish; it can still ask the others."""
        self._link(primary).vanish(*Way)

    def heal(self) -> None:
        for link in self.links:
            link.heal()

    def _link(self, primary: Mongod) -> Link:
        return self.links[self._members.index(primary)]


FROM_SERVER = "from server"
PARTITIONS: dict[str, Callable[[Parted, Mongod], None]] = {
    "from members": Parted.from_members,
    "from all": Parted.from_all,
    "silently": Parted.silently,
    FROM_SERVER: Parted.from_server,
}


async def partitions(
    directory: Path,
    rounds: int,
    seed: int,
    ways: Sequence[str] = (),
    silent_seconds: tuple[float, float] = SILENT_SECONDS,
) -> Report:
    """Part the primary of a set of three from the others, from the server, or from both, in turn."""
    names = ways or tuple(PARTITIONS)
    async with parted(directory, seed) as (the_set, links, load):
        for number in range(rounds):
            name = names[number % len(names)]
            primary = await the_set.the_primary()
            await asyncio.sleep(the_set.dice.random() * BUSY_SECONDS)
            began = clock()
            PARTITIONS[name](links, primary)
            if name == FROM_SERVER:  # no other member becomes primary
                await asyncio.sleep(the_set.dice.uniform(*silent_seconds))  # of the fault
                links.heal()
                times = await _back(the_set.history, load, clock())
            else:
                times, elected = await asyncio.gather(
                    _back(the_set.history, load, began), the_set.elected(primary, began)
                )
                times["elected"] = elected
                links.heal()
            the_set.report.fault(name, **times)
            await until_all_follow(the_set)
    return the_set.report


@contextlib.asynccontextmanager
async def parted(directory: Path, seed: int) -> AsyncIterator[tuple[Set, Parted, Load]]:
    """A server under load on a set of three whose members are reached, by each other too, through links."""
    history, report, dice = History(), Report(), random.Random(seed)
    with contextlib.ExitStack() as stack:
        name = f"rs{secrets.token_hex(3)}"
        members = [Mongod(replica_set=name, directory=new_directory(directory)) for _ in range(MEMBERS)]
        for member in members:
            stack.callback(member.close)
            await asyncio.to_thread(member.start)
        links = Parted(members, seed)
        try:
            for link in links.links:
                await link.open()
            uri = await asyncio.to_thread(initiate, members, [link.address for link in links.links])
            async with under_load(directory, f"{uri}&appName={CLIENT}", seed, history, report) as load:
                yield Set(members, history, report, dice), links, load
        finally:
            for link in links.links:
                await link.close()
