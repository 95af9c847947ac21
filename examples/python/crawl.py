"""A crawl frontier: pages that are new, pages to look at again, and no haste with any host.

    python crawl.py [--address HOST:PORT] [--visits N] [--delay SECONDS] [--port PORT] [URL...]

Each page is a task whose ID is its URL, so that it is queued once however many pages link to it. New pages are in the
topic `fresh`. A page that was visited moves to `revisit`, and is visited again later: sooner when it has changed, later
when it has not. Without URLs it crawls a small site that it serves itself.
"""

import argparse
import asyncio
import hashlib
import time
from dataclasses import dataclass, replace
from html.parser import HTMLParser
from http import HTTPStatus
from urllib.error import HTTPError
from urllib.parse import urldefrag, urljoin, urlsplit
from urllib.request import urlopen

from pages import serve  # beside this file

import ratus

SHORTEST, LONGEST = 2.0, 3600.0  # seconds until a page is visited again
TIMEOUT = 10.0  # seconds for a page to load


@dataclass
class Page:
    """The payload of a task."""

    url: str
    digest: str = ""  # of what was there at the last visit
    pause: float = SHORTEST  # seconds between the last visit and the next
    failures: int = 0  # counted by ratus.Retry


class Manners:
    """Lets a host be visited once in so many seconds, and tells everybody else when to come back."""

    def __init__(self, delay: float) -> None:
        self._delay = delay
        self._visited: dict[str, float] = {}
        self._slots: dict[str, float] = {}

    def wait(self, url: str) -> float:
        """Seconds until this URL may be asked for; 0: now."""
        host, now = urlsplit(url).netloc, time.monotonic()
        free = self._visited.get(host, now - self._delay) + self._delay
        if free <= now:
            self._visited[host] = now
            return 0
        # Those who have to wait get a slot each, so that they do not all come back at once.
        self._slots[host] = max(free, self._slots.get(host, 0) + self._delay)
        return self._slots[host] - now


class Links(HTMLParser):
    """Finds the links of a page."""

    def __init__(self, url: str, text: str) -> None:
        super().__init__()
        self._url = url
        self.found: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Keep what is linked to."""
        link = dict(attrs).get("href")
        if tag == "a" and link:
            self.found.add(urldefrag(urljoin(self._url, link)).url)


def fetch(url: str) -> str:
    """The text at a URL."""
    with urlopen(url, timeout=TIMEOUT) as answer:
        return answer.read().decode(errors="replace")


class Crawler:
    """Visits pages until it has made so many visits, or for ever."""

    def __init__(self, queue: ratus.Queue, visits: int | None, delay: float) -> None:
        self._queue = queue
        self._left = visits
        self._manners = Manners(delay)
        self._start = time.monotonic()
        # A page that fails is tried again three times, with pauses that grow; then it is archived.
        retry = ratus.Retry("1s", factor=4, attempts=4, counter="failures")
        queue.worker("fresh", type=Page, concurrency=5, timeout="30s", retry=retry)(self.visit)
        queue.worker("revisit", type=Page, concurrency=1, timeout="30s", retry=retry)(self.visit)

    async def visit(self, task: ratus.ActiveTask[Page]) -> None:
        """Visit a page, queue what it links to, and have it visited again."""
        page = task.payload
        wait = self._manners.wait(page.url)
        if wait:
            task.retry(wait)  # frees the worker for other hosts meanwhile
            return
        began = time.monotonic() - self._start
        try:
            text = await asyncio.to_thread(fetch, page.url)
        except HTTPError as error:
            if error.code not in (HTTPStatus.NOT_FOUND, HTTPStatus.GONE):
                raise
            task.archive()  # so that it is not queued again
            self._count(f"{began:6.2f} gone    {page.url}")
            return
        links = Links(page.url, text).found
        # Whether or not this was done before: those that are queued, or were visited, stay as they are.
        await self._queue.insert_tasks([ratus.new_task("fresh", Page(link), id=link) for link in sorted(links)])
        digest = hashlib.sha256(text.encode()).hexdigest()
        pause = min(page.pause * 2, LONGEST) if digest == page.digest else SHORTEST
        task.payload = replace(page, digest=digest, pause=pause, failures=0)
        self._count(f"{began:6.2f} {task.topic:7} {page.url}, again in {pause:g} s")
        task.retry(pause).topic = "revisit"

    def _count(self, line: str) -> None:
        print(line, flush=True)
        if self._left is not None:
            self._left -= 1
            if self._left == 0:
                self._queue.stop()


async def crawl(options: argparse.Namespace, seeds: list[str]) -> None:
    """Queue the seeds, and visit."""
    async with ratus.connect(options.address) as queue:
        await queue.insert_tasks([ratus.new_task("fresh", Page(seed), id=seed) for seed in seeds])
        Crawler(queue, options.visits, options.delay)
        await queue.run()  # until SIGTERM, Ctrl-C or the last visit


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description="Crawl pages politely.")
    parser.add_argument("--address", default="127.0.0.1:50051", help="of the Ratus server")
    parser.add_argument("--visits", type=int, help="stop after so many")
    parser.add_argument("--delay", type=float, default=0.2, help="seconds between two visits of a host")
    parser.add_argument("--port", type=int, default=8101, help="of the site of this program, with the next; 0: any")
    parser.add_argument("urls", nargs="*", metavar="URL", help="where to begin; by default a site of this program")
    options = parser.parse_args()
    if options.urls:
        asyncio.run(crawl(options, options.urls))
        return
    with serve(options.port) as urls:
        asyncio.run(crawl(options, [f"{urls[0]}/"]))


if __name__ == "__main__":
    main()
