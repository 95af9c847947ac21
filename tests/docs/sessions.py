"""Sessions at a terminal: commands, and what they print."""

import re
from typing import Final

# What differs from run to run is compared by its form: nonces, ids that were made up, times, and what was measured.
_NONCE: Final = re.compile(r'(?<="nonce":")\w{16}(?=")|(?<=--nonce )\w{16}\b|(?<= nonce) +\w{16}\b')
_CHANGING: Final = (
    (_NONCE, " NONCE"),
    (re.compile(r"\b[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\b|\b[0-9a-f]{32}\b"), "ID"),
    (re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(?:[.,]\d+)?(?:Z|\+00:00)?"), "TIME"),
    (re.compile(r"\b\d+[smhd] ago\b|\bin \d+[smhd]\b|(?<=  )now(?=  )"), "WHEN"),
    (re.compile(r"\b\d+(?:\.\d+)? (?:ms|s|[KMG]iB)\b|\b[\d,.]+/s\b|\b\d:\d\d:\d\d\b|\bup [\dhms]+\b"), "MEASURED"),
    (re.compile(r"─+|━+|\s+$"), ""),
    (re.compile(r"  +"), "  "),  # of columns, which are as wide as what is in them
)
ANYTHING: Final = "…"  # in a line; alone in one, any lines


def steps(text: str) -> list[tuple[str, str]]:
    """The commands of a session, each with what it prints. A command goes on behind `> `."""
    found: list[tuple[str, str]] = []
    continued = False
    for line in text.splitlines():
        if line.startswith("$ "):
            found.append((line[2:], ""))
            continued = True
        elif line.startswith("> ") and continued:
            command, _ = found[-1]
            found[-1] = (f"{command}\n{line[2:]}", "")
        else:
            assert found, f"no command before {line!r}"
            command, output = found[-1]
            found[-1] = (command, f"{output}{line}\n")
            continued = False
    return found


def matches(printed: str, expected: str) -> bool:
    """Whether a command has printed what it should."""
    lines = [
        r"(?:.*\n)*" if line == ANYTHING else ".*".join(map(re.escape, line.split(ANYTHING))) + r"\n"
        for line in _lines(expected)
    ]
    return re.fullmatch("".join(lines), "".join(f"{line}\n" for line in _lines(printed))) is not None


def nonces(printed: str, expected: str) -> dict[str, str]:
    """What stands for the nonces that were expected."""
    return {
        there.strip(): here.strip()
        for there, here in zip(_NONCE.findall(expected), _NONCE.findall(printed), strict=False)
    }


def _lines(text: str) -> list[str]:
    return [_formed(line) for line in text.strip().splitlines()]


def _formed(line: str) -> str:
    for pattern, name in _CHANGING:
        line = pattern.sub(name, line)
    return line
