"""The fenced blocks of the documentation, with what a comment before a block says about it.

<!-- not run: KIND -->      one of NOT_RUN, the reasons that count
<!-- output -->             what the Python block before it prints
<!-- keeps running -->      a command that others on the page need, stopped at the end of the page
<!-- needs: cpp -->         or node, mongodb: what is to be there
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from markdown_it import MarkdownIt

ROOT: Final = Path(__file__).parents[2]

NOT_RUN: Final = {
    "needs Docker": "a container engine, which tests do not have",
    "needs Kubernetes": "a cluster, which tests do not have",
    "needs systemd": "a machine of its own",
    "needs a sharded cluster": "mongos, which the MongoDB for tests lacks",
    "installs packages": "changes the machine",
    "development": "runs the tests themselves, or ends only when it is interrupted",
    "other software": "code of Celery, Prometheus or Go, to compare with or to copy",
}
NEEDS: Final = {"cpp", "node", "mongodb"}
RUN: Final = {"console", "python", "sh"}
READ: Final = {"json", "yaml"}  # by a parser
_NOTE = re.compile(r"<!-- (.*?) -->")


@dataclass(frozen=True)
class Block:
    """A fenced block."""

    page: Path
    line: int
    language: str
    text: str
    note: str

    @property
    def place(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"

    @property
    def not_run(self) -> str:
        return self.note.removeprefix("not run: ") if self.note.startswith("not run: ") else ""

    @property
    def needs(self) -> str:
        return self.note.removeprefix("needs: ") if self.note.startswith("needs: ") else ""


def pages() -> list[Path]:
    """All pages whose blocks are tested; those of deploy/ have tests of their own."""
    return [
        ROOT / "README.md",
        *sorted((ROOT / "docs").rglob("*.md")),
        *sorted((ROOT / "examples").glob("*/README.md")),
    ]


def blocks(page: Path) -> Iterator[Block]:
    note = ""
    for token in MarkdownIt("commonmark").parse(page.read_text()):
        if token.type == "html_block":
            matched = _NOTE.fullmatch(token.content.strip())
            note = matched[1] if matched else ""
        elif token.type == "fence":
            assert token.map is not None
            yield Block(page, token.map[0] + 1, token.info.strip(), token.content, note)
            note = ""
        else:
            note = ""
