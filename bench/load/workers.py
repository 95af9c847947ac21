"""The same work with queues whose workers run functions: Celery and RQ on Redis.

The modes and what is printed are those of bench.load.drive; workers run already. What is acknowledged is what was
sent and is not in Redis any more. `python -m bench.load.workers celery|rq MODE REDIS_URL SECONDS`
"""

import os
import random
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Protocol

import redis
import rq

from bench.load import jobs
from bench.load.calls import PAYLOAD
from bench.load.celery_worker import application
from bench.load.drive import BATCH, CALLERS, INTERVAL, LEAST_SECONDS, LEAST_TASKS, WARM_UP, quantiles

AHEAD = 64  # tasks that may be sent and not acknowledged, or if that is more, so many calls:
AHEAD_CALLS = 5
END_SECONDS = 60
TEXT = PAYLOAD.decode()


class Broker(Protocol):
    """What sends."""

    def put(self, count: int, where: str = "") -> None:
        """Send so many tasks, and wait until Redis has them."""

    def left(self) -> int:
        """Tasks that are not acknowledged."""


class Celery:
    """Its tasks are sent one by one."""

    def __init__(self, url: str) -> None:
        os.environ[jobs.REDIS] = url
        self._task = application().tasks["work"]
        self._redis = redis.Redis.from_url(url)

    def put(self, count: int, where: str = "") -> None:
        for _ in range(count):
            self._task.apply_async((TEXT, time.perf_counter(), where))

    def left(self) -> int:
        return int(self._redis.llen("celery")) + int(self._redis.hlen("unacked"))


class Rq:
    """Its tasks are sent one by one, or many in one pipeline."""

    def __init__(self, url: str) -> None:
        self._queue = rq.Queue("bench", connection=redis.Redis.from_url(url))

    def put(self, count: int, where: str = "") -> None:
        arguments = (TEXT, time.perf_counter(), where)
        if count == 1:
            self._queue.enqueue(jobs.work, *arguments, result_ttl=0)
        else:
            self._queue.enqueue_many([rq.Queue.prepare_data(jobs.work, arguments, result_ttl=0)] * count)

    def left(self) -> int:
        return self._queue.count + self._queue.started_job_registry.get_job_count(cleanup=False)


def rate(broker: Broker, threads: int, size: int, seconds: float) -> list[float]:
    """Full tasks a second."""
    broker.put(1)
    wait_until(lambda: broker.left() == 0)  # the workers have started
    sent = [0] * threads
    over, room = threading.Event(), threading.Event()

    def produce(number: int) -> None:
        while not over.is_set():
            if room.wait(INTERVAL):
                broker.put(size)
                sent[number] += size

    def watch(span: float) -> tuple[int, int, float]:
        end = time.perf_counter() + span
        while True:
            left = broker.left()
            (room.set if left < max(AHEAD, AHEAD_CALLS * size) else room.clear)()
            if (now := time.perf_counter()) >= end:
                return sum(sent), sum(sent) - left, now
            time.sleep(INTERVAL)  # Redis tells nobody of the length of a list

    with ThreadPoolExecutor(threads) as pool:
        producers = [pool.submit(produce, number) for number in range(threads)]
        inserted, acknowledged, begin = watch(WARM_UP)
        inserted_, acknowledged_, end = watch(seconds)
        while (full := min(inserted_ - inserted, acknowledged_ - acknowledged)) < LEAST_TASKS:
            if end > begin + seconds + LEAST_SECONDS:
                over.set()
                raise TimeoutError(f"{full} tasks in {LEAST_SECONDS} s")
            inserted_, acknowledged_, end = watch(INTERVAL)
        over.set()
        for producer in producers:
            producer.result()
    wait_until(lambda: broker.left() == 0)  # else the workers would go on beside the next run, which is another's
    return [full / (end - begin)]


def dispatch(broker: Broker, seconds: float) -> list[float]:
    """p50 and p99 of the milliseconds to an idle worker."""
    with tempfile.TemporaryDirectory() as directory:
        file = Path(directory) / "spent"
        broker.put(1, str(file))
        wait_until(file.exists)
        begin, count = time.perf_counter(), 1
        while time.perf_counter() < begin + seconds:
            time.sleep(INTERVAL * random.uniform(0.5, 1.5))
            broker.put(1, str(file))
            count += 1
        wait_until(lambda: file.read_text().count("\n") == count)
        return quantiles([float(line) for line in file.read_text().split()[1:]])


def wait_until(condition: Callable[[], bool]) -> None:
    end = time.perf_counter() + END_SECONDS
    while not condition():
        if time.perf_counter() > end:
            raise TimeoutError("the workers do not keep up")
        time.sleep(INTERVAL)  # neither Redis nor a file that grows tells of it


def main(kind: str, mode: str, url: str, seconds: float) -> None:
    broker: Broker = {"celery": Celery, "rq": Rq}[kind](url)
    if mode == "dispatch":
        print(*dispatch(broker, seconds))
    elif mode == "singly":
        print(*rate(broker, CALLERS, 1, seconds))
    else:
        print(*rate(broker, 1, BATCH, seconds))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3], float(sys.argv[4]))
