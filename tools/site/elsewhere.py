"""Pages for what the documentation links to outside of docs/: READMEs as they are, sources as blocks of code.

Links in the repository lead to files; in the site they lead to these pages, which have the same paths.
"""

import posixpath
import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
LINK = re.compile(r"(?<!!)\[(?P<text>[^\]]*)\]\((?P<target>[^)#\s:]+)(?P<anchor>#[^)\s]*)?\)")
FENCES = {
    ".py": "python",
    ".js": "javascript",
    ".sh": "sh",
    ".cpp": "cpp",
    ".yaml": "yaml",
    ".yml": "yaml",
    ".json": "json",
}


def place(source: str) -> str:
    """Where a page of the site is in the repository."""
    top = source.split("/", 1)[0]
    return source if (ROOT / top).exists() and not (ROOT / "docs" / top).exists() else f"docs/{source}"


def page_of(target: str) -> str:
    """The page for a file or directory of the repository; empty if there is no such file."""
    path = ROOT / target
    if path.is_dir():
        readme = path / "README.md"
        return f"{target}/README.md" if readme.exists() else f"{target}/index.md"
    if not path.is_file():
        return ""
    return target if path.suffix == ".md" else f"{target}.md"


def rewrite(markdown: str, source: str) -> tuple[str, set[str]]:
    """The Markdown of a page with its links out of docs/ led to pages of the site; the files that they lead to."""
    here = posixpath.dirname(place(source))
    found: set[str] = set()

    def lead(link: re.Match[str]) -> str:
        target = posixpath.normpath(posixpath.join(here, link["target"]))
        if target.startswith("docs/"):
            page = target.removeprefix("docs/") + ("/README.md" if (ROOT / target).is_dir() else "")
        elif page := page_of(target):
            found.add(target)
        else:
            return link[0]  # a mistake, which the build finds
        relative = posixpath.relpath(page, posixpath.dirname(source) or ".")
        return f"[{link['text']}]({relative}{link['anchor'] or ''})"

    return LINK.sub(lead, markdown), found


def content(target: str) -> str:
    """The Markdown of the page for a file or directory."""
    path = ROOT / target
    if path.is_dir() and not (path / "README.md").exists():
        entries = sorted(entry.name for entry in path.iterdir() if entry.is_file())
        return f"# {target}\n\n" + "\n".join(f"- [{name}]({name})" for name in entries) + "\n"
    if path.is_dir():
        return (path / "README.md").read_text()
    if path.suffix == ".md":
        return path.read_text()
    return f"# {target}\n\n````{FENCES.get(path.suffix, 'text')}\n{path.read_text()}````\n"
