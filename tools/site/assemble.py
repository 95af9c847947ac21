"""Puts the pages of the site together, for Sphinx to build it from them.

    python -m tools.site.assemble DIRECTORY

These are the pages of docs/, references that are made from what they describe, and pages for what is linked to outside
of docs/. In the repository everything can be read as it is; nothing that is made is kept there.
"""

import posixpath
import shutil
import sys
from pathlib import Path

from tools.site import client_reference, elsewhere, rest_reference, rpc_reference, settings_reference
from tools.site.contents import CONTENTS, NOT_YET

ROOT = Path(__file__).parents[2]
MADE = {
    "grpc.md": rpc_reference.page,
    "rest.md": rest_reference.page,
    "client-reference.md": client_reference.page,
    "settings.md": settings_reference.page,
}
ALONE = "---\norphan: true\n---\n\n"  # not in the contents, and found by links


def pages() -> dict[str, str]:
    """The Markdown of all pages, by where they are in the site."""
    docs = ROOT / "docs"
    unread = {path.relative_to(docs).as_posix(): path.read_text() for path in docs.rglob("*.md")}
    unread |= {source: make() for source, make in MADE.items()}
    known = set(unread)
    found: dict[str, str] = {}
    while unread:
        linked: set[str] = set()
        for source, markdown in unread.items():
            found[source], targets = elsewhere.rewrite(markdown, source)
            linked |= targets
        unread = {elsewhere.page_of(target): ALONE + elsewhere.content(target) for target in sorted(linked)}
        unread = {source: markdown for source, markdown in unread.items() if source not in found}
    missing = NOT_YET - known
    found["index.md"] += "".join(
        _tree([source for source in sources if source not in missing], caption) for caption, sources in CONTENTS.items()
    )
    decisions = sorted(source for source in known if source.startswith("decisions/0"))
    found["decisions/README.md"] += _tree([posixpath.basename(source) for source in decisions])
    return found


def _tree(sources: list[str], caption: str = "") -> str:
    options = f":hidden:\n:caption: {caption}\n" if caption else ":maxdepth: 1\n"
    return f"\n```{{toctree}}\n{options}\n" + "\n".join(sources) + "\n```\n"


def main(directory: Path) -> None:
    """Write all pages; what was there before is gone."""
    shutil.rmtree(directory, ignore_errors=True)
    for source, markdown in pages().items():
        path = directory / source
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(markdown)
    for picture in (ROOT / "docs").rglob("*.svg"):
        shutil.copy(picture, directory / picture.relative_to(ROOT / "docs"))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
