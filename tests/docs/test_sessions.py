"""The matcher must not let everything pass."""

import pytest

from tests.docs.sessions import matches, nonces, steps
from tests.docs.terminal import screen


def test_steps() -> None:
    text = "$ one\n1\n\n$ two \\\n> more\n> and more\n> not more\n$ three\n"
    assert steps(text) == [("one", "1\n\n"), ("two \\\nmore\nand more\nnot more", ""), ("three", "")]


@pytest.mark.parametrize(
    ("printed", "expected"),
    [
        ("", ""),
        ("a\n", "a"),
        ('{"nonce":"abcdefghijklmnop"}', '{"nonce":"ABCDEFGHIJKLMNOP"}'),
        ('{"at":"2026-11-25T12:00:00.001Z"}', '{"at":"2026-01-01T00:00:00Z"}'),
        ("id 0123456789abcdef0123456789abcdef", "id ffffffffffffffffffffffffffffffff"),
        ("took it.", "took …."),
        ("took 12 ms at 3,000/s, 0.1 s ago", "took 7.5 ms at 12/s, 3 s ago"),
        (" id    due\n ─────────\n one   in 9m", " id   due\n ────────\n one  1h ago"),
        ("a\nb\nc\n", "a\n…\nc"),
        ("a\nc\n", "a\n…\nc"),
    ],
)
def test_what_matches(printed: str, expected: str) -> None:
    assert matches(printed, expected)


@pytest.mark.parametrize(
    ("printed", "expected"),
    [
        ("a\n", ""),
        ("", "a\n"),
        ("a\nb\n", "a\n"),
        ('{"nonce":""}', '{"nonce":"ABCDEFGHIJKLMNOP"}'),
        ('{"state":2}', '{"state":1}'),
        ("at noon", "at 2026-01-01T00:00:00Z"),
        ("took\nit.", "took …."),
        ("12 tasks", "13 tasks"),
        ("a\nb\n", "a\n…\nc"),
        ("a.b", "a+b"),
    ],
)
def test_what_does_not_match(printed: str, expected: str) -> None:
    assert not matches(printed, expected)


def test_nonces() -> None:
    assert nonces('{"nonce":"aaaaaaaaaaaaaaaa"}', '{"nonce":"bbbbbbbbbbbbbbbb"}') == {"b" * 16: "a" * 16}
    assert nonces(" nonce   aaaaaaaaaaaaaaaa", " nonce   bbbbbbbbbbbbbbbb") == {"b" * 16: "a" * 16}
    assert nonces("", "") == {}


@pytest.mark.parametrize(
    ("sent", "seen"),
    [
        ("one\r\ntwo\r\n", "one\ntwo\n"),
        ("\x1b[1;31mred\x1b[0m", "red"),
        ("10 %\r20 %\r\n", "20 %\n"),
        ("a\r\nold bar\r\x1b[2Kbar\r\n", "a\nbar\n"),
        ("a\r\nb\r\n\x1b[2A\x1b[2Kc\r\n", "c\nb\n"),
        ("\x1b[?25lbar\x1b[?25h", "bar"),
    ],
)
def test_what_is_seen(sent: str, seen: str) -> None:
    assert screen(sent) == seen
