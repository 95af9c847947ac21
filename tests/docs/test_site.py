"""The site has all pages, and its references all that they are made from. `make docs` finds broken links."""

import pytest

import ratus
from gateway.openapi import document
from tests.docs.blocks import ROOT
from tests.docs.test_pages import SERVICES
from tools.site import assemble, elsewhere
from tools.site.contents import CONTENTS, NOT_YET


@pytest.fixture(scope="module")
def pages() -> dict[str, str]:
    return assemble.pages()


def test_all_pages_are_in_the_contents(pages: dict[str, str]) -> None:
    listed = {source for sources in CONTENTS.values() for source in sources}
    assert listed - NOT_YET <= set(pages)
    docs = {path.relative_to(ROOT / "docs").as_posix() for path in (ROOT / "docs").rglob("*.md")}
    assert {source for source in docs if not source.startswith("decisions/")} - {"index.md"} <= listed


def test_references_have_all_that_there_is(pages: dict[str, str]) -> None:
    for service in SERVICES:
        assert f"## {service.name}\n" in pages["grpc.md"]
        assert [method.name for method in service.methods if f"| `{method.name}` |" not in pages["grpc.md"]] == []
    for path, methods in document()["paths"].items():
        assert [method for method in methods if f"## {method.upper()} {path}\n" not in pages["rest.md"]] == []
    exported = [name for name in ratus.__all__ if not name.startswith("__")]
    assert [name for name in exported if f":: ratus.{name}\n" not in pages["client-reference.md"]] == ["Duration"]
    for option in ("--port", "--sqlite-path", "--chore-initial-random", "--target"):
        assert f"| `{option}` |" in pages["settings.md"]


@pytest.mark.parametrize(
    ("source", "link", "there"),
    [
        ("index.md", "../CHANGELOG.md", "CHANGELOG.md"),
        ("guide/concepts.md", "../../examples/python/README.md#x", "../examples/python/README.md#x"),
        ("guide/concepts.md", "../../examples/python/crawl.py", "../examples/python/crawl.py.md"),
        ("guide/concepts.md", "../../examples/cpp/", "../examples/cpp/README.md"),
        ("guide/concepts.md", "delivery.md#x", "delivery.md#x"),
        ("index.md", "decisions/", "decisions/README.md"),
        ("index.md", "../nothing.md", "../nothing.md"),
        ("examples/python/README.md", "crawl.py", "crawl.py.md"),
        ("index.md", "https://example.com/a.md", "https://example.com/a.md"),
    ],
)
def test_where_links_lead(source: str, link: str, there: str) -> None:
    assert elsewhere.rewrite(f"see [it]({link}).", source)[0] == f"see [it]({there})."
