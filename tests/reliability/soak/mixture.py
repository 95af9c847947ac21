"""Which clients there are, and their shares."""

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True)
class Kind:
    """Producers and consumers of one sort, who have a topic of their own, so that each gets its share."""

    topic: str
    share: float  # of the tasks
    batch: int  # tasks of an insert
    consumers: int  # in each process


KINDS: Final = (Kind("rest", 0.04, 1, 6), Kind("unary", 0.16, 1, 8), Kind("poll", 0.4, 20, 2), Kind("work", 0.4, 20, 2))
TOPICS: Final = tuple(kind.topic for kind in KINDS)
TIMEOUT: Final = 10_000  # ms of a promise
IN_FLIGHT: Final = 200  # tasks of a stream
DEFERRED: Final = 0.3  # of the tasks come later
DEFER: Final = (50, 2000)  # ms
RETRY_SECONDS: Final = 0.2
ATTEMPTS: Final = 600  # of a call whose outcome is unknown, so for two minutes
