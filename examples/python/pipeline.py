"""A pipeline: each document is one task that moves through the topics fetch, parse and store.

    python pipeline.py [ADDRESS [DATABASE]]

A stage ends with one commit that gives the task its next topic and payload. So there is no moment at which a document
is in two stages or in none, and a stage that dies is executed again from where the last one ended. The program stores
how often each word occurs, and ends when all documents have arrived. It is written without `async`.
"""

import sqlite3
import sys
import threading
from collections import Counter
from contextlib import closing
from dataclasses import dataclass

import ratus

LIBRARY = {
    "rose": "Rose is a rose is a rose is a rose.",
    "fox": "The quick brown fox jumps over the lazy dog.",
    "sea": "She sells sea shells by the sea shore.",
}


@dataclass
class Source:
    """What `fetch` gets."""

    name: str


@dataclass
class Text:
    """What `parse` gets."""

    name: str
    text: str


@dataclass
class Words:
    """What `store` gets."""

    name: str
    words: dict[str, int]


class Store:
    """Where the words of documents are kept."""

    def __init__(self, path: str) -> None:
        self._rows = sqlite3.connect(path, check_same_thread=False)
        self._lock = threading.Lock()
        self._rows.execute("CREATE TABLE IF NOT EXISTS words (document TEXT, word TEXT, count INTEGER)")

    def put(self, document: str, words: dict[str, int]) -> None:
        """Keep the words of a document in place of those that it had."""
        with self._lock, self._rows:
            self._rows.execute("DELETE FROM words WHERE document = ?", (document,))
            self._rows.executemany("INSERT INTO words VALUES (?, ?, ?)", [(document, *pair) for pair in words.items()])

    def frequent(self) -> list[tuple[str, int]]:
        """The words that occur more than once, and how often."""
        query = "SELECT word, sum(count) AS n FROM words GROUP BY word HAVING n > 1 ORDER BY n DESC, word"
        return self._rows.execute(query).fetchall()

    def close(self) -> None:
        """Close the file."""
        self._rows.close()


def add_stages(queue: ratus.SyncQueue, store: Store) -> None:
    """Make the stages workers of the queue."""
    missing = set(LIBRARY)

    @queue.worker("fetch", type=Source, concurrency=4, timeout="30s", retry="1s")
    def fetch(task: ratus.SyncActiveTask[Source]) -> None:
        name = task.payload.name
        task.payload = Text(name, LIBRARY[name])
        task.abstain().topic = "parse"  # pending again, in the next topic; without abstain it would be completed there

    @queue.worker("parse", type=Text, concurrency=2, timeout="30s")
    def parse(task: ratus.SyncActiveTask[Text]) -> None:
        words = Counter(word.strip(".").lower() for word in task.payload.text.split())
        task.payload = Words(task.payload.name, dict(words))
        task.abstain().topic = "store"

    @queue.worker("store", type=Words, timeout="30s")
    def keep(task: ratus.SyncActiveTask[Words]) -> None:
        # A task may be executed more than once, so what it does must not depend on how often: replace, do not add.
        store.put(task.payload.name, task.payload.words)
        print("stored", task.payload.name, flush=True)
        missing.discard(task.payload.name)
        if not missing:
            queue.stop()


def main(address: str = "127.0.0.1:50051", database: str = "words.sqlite") -> None:
    """Send all documents through the stages."""
    store = Store(database)
    with closing(store), ratus.connect_sync(address) as queue:
        add_stages(queue, store)
        for name in LIBRARY:
            queue.upsert("fetch", Source(name), id=f"document-{name}")  # also when it went through before
        queue.run()
        for word, count in store.frequent():
            print(word, count)


if __name__ == "__main__":
    main(*sys.argv[1:3])
