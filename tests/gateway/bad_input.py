"""Requests that are wrong, and what the contract answers."""

from typing import NamedTuple

from tests.gateway.serving import PAYLOAD_BYTES

BAD, TOO_LARGE = "bad request: ", "too large: "
NO_TOPIC = "bad request: topic must not be empty"
NO_ID = "bad request: task ID must not be empty"

LONG = "x" * 1025
DEEP = "[" * 10_000 + "]" * 10_000
FAR = "99999999h"  # runs past the year 9999

# `{T}` stands for a fresh topic, in which `{T}-1` is pending.
OLD, NEW, BATCH = "/v1/topics/{T}/tasks/{T}-1", "/v1/topics/{T}/tasks/{T}-2", "/v1/topics/{T}/tasks"
CLAIM, PROMISE = "/v1/topics/{T}/promises", "/v1/topics/{T}/promises/{T}-1"
WRITES = [("POST", NEW), ("PUT", NEW), ("PUT", OLD), ("POST", BATCH), ("PUT", BATCH)]
COMMIT, COMMITS = ("PATCH", OLD), ("PATCH", BATCH)
PROMISES = [("POST", CLAIM), ("POST", PROMISE), ("PUT", PROMISE)]


class Case(NamedTuple):
    """A request, and how the message of the error begins."""

    method: str
    path: str
    body: bytes | None = None
    message: str = BAD

    @property
    def status(self) -> int:
        return 413 if self.message == TOO_LARGE else 400

    @property
    def name(self) -> str:
        return f"{self.method} {self.path} {self.body!r}"[:120]


BODIES: list[bytes] = [
    b"nonsense",
    b"  ",
    b'{"payload":',
    b"[1,2]",
    b"null",
    b'"x"',
    b"{} {}",
    b"\xef\xbb\xbf{}",
    b"payload=1",
    DEEP.encode(),
    b'{"colour":' + DEEP.encode() + b"}",
    b'{"topic":"\xff"}',
    b'{"colour":"\xff"}',
    b'{"_id":"\\ud800","nonce":"\\ud800","data":[{"topic":"\\ud800"}]}',
    b"{topic:1}",
    b'{"topic":"x",}',
    b'{"topic":NaN}',
    bytes(range(256)),
]
PAYLOADS: list[tuple[bytes, str]] = [
    (b"{1}", BAD),
    (b"1e400", BAD),
    (b'{"a":[-1e400]}', BAD),
    (b"NaN", BAD),
    (b'"\\ud800"', BAD),
    (b'{"\\udc00":1}', BAD),
    (b'"\xff"', BAD),
    (b'[{"a\\u0000b":1}]', BAD),
    (b"[" * 101 + b"]" * 101, BAD),
    (DEEP.encode(), BAD),
    (b'"\x01"', BAD),
    (b'"' + b"x" * PAYLOAD_BYTES + b'"', TOO_LARGE),
]
WRONG_TYPES = [b"5", b"true", b"[]", b"{}"]
NAMES = [f'"{LONG}"'.encode(), b'"a\\u0000"']
TIMES = [
    b'"tomorrow"',
    b'"2030-01-01"',
    b'"2030-13-01T00:00:00Z"',
    b'"9999-12-31T23:59:59.9999Z"',
    b'"+12030-01-01T00:00:00Z"',
]
DURATIONS = [b'"foo"', b'"1d"', b'"5"', f'"{FAR}"'.encode(), b'"9999999999h"', b'"-99999999h"']
STATES = [-1, 4, 2**31, -(2**31) - 1, 2**63, 10**30]

TASK_FIELDS: dict[str, list[bytes]] = {
    **dict.fromkeys(("topic", "nonce", "producer", "consumer"), WRONG_TYPES + NAMES),
    **dict.fromkeys(("produced", "scheduled", "consumed", "deadline"), WRONG_TYPES + TIMES),
    "defer": WRONG_TYPES + DURATIONS,
    "state": [b'"0"', b"1.5", *WRONG_TYPES[1:]],
}
PROMISE_FIELDS: dict[str, list[bytes]] = {
    "_id": WRONG_TYPES,
    "consumer": WRONG_TYPES + NAMES,
    "deadline": WRONG_TYPES + TIMES,
    "timeout": WRONG_TYPES + DURATIONS[:-1],
}
COMMIT_FIELDS = {name: TASK_FIELDS[name] for name in ("nonce", "topic", "state", "scheduled", "defer")}


def _task(path: str, fields: bytes) -> bytes:
    """A body with these fields in a task; in a batch, a good one stands before it."""
    return b'{"data":[{"_id":"{T}-3"},{"_id":"{T}-2",%s}]}' % fields if path == BATCH else b"{%s}" % fields


def _writes() -> list[Case]:
    cases = []
    for method, path in WRITES:
        cases += [Case(method, path, None, "bad request: missing request body")]
        for name, values in TASK_FIELDS.items():
            cases += [Case(method, path, _task(path, b'"%s":%s' % (name.encode(), value))) for value in values]
        for payload, message in PAYLOADS:
            cases.append(Case(method, path, _task(path, b'"payload":' + payload), message))
        for state in STATES:
            cases.append(Case(method, path, _task(path, b'"state":%d' % state), f"bad request: invalid state {state}"))
        if path == BATCH:
            cases += [
                Case(method, path, b'{"data":1}'),
                Case(method, path, b'{"data":[{"_id":"{T}-2"},null]}'),
                Case(method, path, b'{"data":[{"_id":"{T}-2"},{}]}', NO_ID),
                Case(method, path, b'{"data":[{"_id":"{T}-2"},{"_id":""}]}', NO_ID),
                Case(method, path, b'{"data":[{"_id":"{T}-2"},{"_id":"%s"}]}' % LONG.encode()),
                Case(method, path, b'{"data":[{"_id":"{T}-2"},{"_id":"\\u0000"}]}'),
                Case(method, path, b'{"data":[{"_id":"{T}-2"},{"_id":1}]}'),
                Case(method, path, b'{"data":[' + b'{"_id":"{T}-2"},' * 10_000 + b'{"_id":"{T}-2"}]}'),
            ]
        else:
            differs = "bad request: task ID is inconsistent with the path parameter"
            cases += [Case(method, path, b'{"_id":"x"}', differs), Case(method, path, b'{"_id":1}')]
    for method in ("POST", "PUT"):
        cases += [
            Case(method, "/v1/topics//tasks/{T}-2", b"{}", NO_TOPIC),
            Case(method, "/v1/topics//tasks/{T}-2", b'{"topic":""}', NO_TOPIC),
            Case(method, "/v1/topics//tasks", b'{"data":[{"_id":"{T}-2","topic":"{T}"},{"_id":"{T}-3"}]}', NO_TOPIC),
        ]
    return cases


def _promises() -> list[Case]:
    cases = [Case("POST", "/v1/topics//promises", None, NO_TOPIC)]
    cases += [Case("POST", CLAIM, b'{"_id":%s}' % name) for name in NAMES]
    for method, path in PROMISES:
        for name, values in PROMISE_FIELDS.items():
            cases += [Case(method, path, b'{"%s":%s}' % (name.encode(), value)) for value in values]
        queries = ["timeout=foo", "timeout=10", "timeout=1d", f"timeout={FAR}", "timeout=%ff", "deadline=tomorrow"]
        queries += ["deadline=2030-01-01", f"consumer={LONG}", "consumer=%00", "consumer=%ff"]
        cases += [Case(method, f"{path}?{query}") for query in queries]
    differs = "bad request: promise ID is inconsistent with the path parameter"
    return cases + [Case(method, PROMISE, b'{"_id":"x"}', differs) for method in ("POST", "PUT")]


def _commits() -> list[Case]:
    cases = [Case(*COMMIT, b'{"payload":' + payload + b"}", message) for payload, message in PAYLOADS]
    cases += [Case(*COMMIT, b'{"state":%d}' % state, f"bad request: invalid target state {state}") for state in STATES]
    for name, values in COMMIT_FIELDS.items():
        cases += [Case(*COMMIT, b'{"%s":%s}' % (name.encode(), value)) for value in values]
    # In a batch, a good one stands before each of them.
    good = b'{"data":[{"_id":"{T}-1"},%s]}'
    entries = [case.body[1:] for case in cases if case.body is not None]
    cases += [
        Case(*COMMITS, good % (b'{"_id":"{T}-1",' + entry), case.message)
        for entry, case in zip(entries, cases, strict=True)
    ]
    cases += [
        Case(*COMMITS, None, "bad request: missing request body"),
        Case(*COMMITS, b'{"data":1}'),
        *(Case(*COMMITS, good % entry) for entry in (b"null", b'{"_id":1}', b'{"_id":"\\u0000"}')),
        *(Case(*COMMITS, good % entry, "bad request: ") for entry in (b"{}", b'{"_id":""}', b'{"_id":null}')),
        Case(*COMMITS, good % (b'{"_id":"%s"}' % LONG.encode())),
        Case(*COMMITS, b'{"data":[' + b'{"_id":"{T}-1"},' * 10_000 + b'{"_id":"{T}-1"}]}'),
        Case("PATCH", f"{BATCH}?return_tasks=perhaps", b'{"data":[{"_id":"{T}-1"}]}'),
    ]
    return cases


def _paths() -> list[Case]:
    cases = []
    for name in (LONG, "%00", "%ff", "%C3"):
        for method in ("GET", "POST", "PUT", "DELETE"):
            cases += [Case(method, f"/v1/topics/{{T}}/{kind}/{name}", b"{}") for kind in ("tasks", "promises")]
        cases.append(Case("PATCH", f"/v1/topics/{{T}}/tasks/{name}"))
        for method in ("GET", "DELETE"):
            cases += [Case(method, f"/v1/topics/{name}{rest}") for rest in ("", "/tasks", "/promises")]
        cases.append(Case("POST", f"/v1/topics/{name}/promises"))
        for method in ("POST", "PUT"):
            cases.append(Case(method, f"/v1/topics/{name}/tasks/{{T}}-2", b"{}"))
            cases.append(Case(method, f"/v1/topics/{name}/tasks", b'{"data":[{"_id":"{T}-2"}]}'))
    return cases


def _pages() -> list[Case]:
    cases = []
    for path in ("/v1/topics", BATCH, CLAIM):
        for name, bound in (("limit", 100), ("offset", 10_000)):
            values: list[tuple[object, str]] = [
                ("foo", BAD),
                ("1.5", BAD),
                (2**63, BAD),
                ("9" * 6000, BAD),
                ("%ff", BAD),
            ]
            beyond = f"bad request: exceeded maximum allowed {name} of {bound}"
            values += [(value, beyond) for value in (bound + 1, 2**31 - 1, 2**31, 2**63 - 1)]
            values += [(value, f"bad request: {name} must not be negative") for value in (-1, -(2**31) - 1, -(2**63))]
            cases += [Case("GET", f"{path}?{name}={value}", None, message) for value, message in values]
    return cases


CASES: list[Case] = [
    *(Case(method, path, body) for method, path in [*WRITES, COMMIT, COMMITS, *PROMISES] for body in BODIES),
    *_writes(),
    *_promises(),
    *_commits(),
    *_paths(),
    *_pages(),
]
