"""Requests that wait, extend or stream and are wrong, and what the contract answers."""

from tests.gateway.bad_input import (
    BODIES,
    CLAIM,
    FAR,
    LONG,
    NAMES,
    NO_ID,
    NO_TOPIC,
    PROMISE_FIELDS,
    WRONG_TYPES,
    Case,
)

EXTEND, STREAM = "/v1/topics/{T}/promises/{T}-1/extend", "/v1/topics/{T}/stream"


def _at(field: str) -> str:
    return f"bad request: {field}: "


NO_DURATIONS = ["foo", "10", "1d", "-", "1h%00", "%20", "9999999999h"]
NO_INTEGERS = ["foo", "1.5", "1e3", "0x10", "%20", "--5", "9" * 200]


def _claims() -> list[Case]:
    queries = {
        "wait": [*NO_DURATIONS, "-1ms", "10m1ms", FAR],
        "limit": [*NO_INTEGERS, "-1", "1001", str(2**31), str(-(2**63)), "9" * 30],
        "request_id": [LONG, "%00"],
    }
    bodies: dict[str, list[bytes]] = {
        "wait": [b'"foo"', b'"-1s"', b'"11m"', *WRONG_TYPES],
        "limit": [b"-1", b"1001", b"%d" % 10**30, b'"1"', b"1.5", b"true", b"[]", b"{}"],
        "request_id": WRONG_TYPES + NAMES,
    }
    good = {"wait": "1s", "limit": "1", "request_id": "r"}
    cases = []
    for name, value in good.items():
        cases += [Case("POST", f"{CLAIM}?{name}={text}", None, _at(name)) for text in queries[name]]
        cases += [Case("POST", CLAIM, b'{"%s":%s}' % (name.encode(), text)) for text in bodies[name]]
        cases += [Case("POST", f"{CLAIM}?{name}={value}", body) for body in BODIES]
        cases += [Case("POST", f"{CLAIM}?{name}={value}", b'{"_id":"{T}-1"}', _at(name))]
        cases += [Case("POST", f"/v1/topics//promises?{name}={value}", None, NO_TOPIC)]
    return cases


def _extensions() -> list[Case]:
    cases = [
        Case("POST", EXTEND, None, _at("nonce")),
        Case("POST", f"{EXTEND}?timeout=1h", b'{"nonce":""}', _at("nonce")),
        Case("POST", f"{EXTEND}?nonce={LONG}", None, _at("nonce")),
        Case("POST", f"{EXTEND}?nonce=%00", None, _at("nonce")),
        Case("POST", EXTEND, b'{"_id":"x"}', "bad request: promise ID is inconsistent with the path parameter"),
        Case("POST", "/v1/topics/{T}/promises//extend?nonce=x", None, NO_ID),
        *(Case("POST", f"/v1/topics/{{T}}/promises/{id}/extend?nonce=x") for id in (LONG, "%00", "%ff", "%C3")),
        *(Case("POST", f"{EXTEND}?nonce=x&timeout={text}", None, _at("timeout")) for text in [*NO_DURATIONS, FAR]),
        *(Case("POST", f"{EXTEND}?nonce=x&deadline={text}", None, _at("deadline")) for text in ("soon", "2030-01-01")),
        *(Case("POST", f"{EXTEND}?nonce=x", body) for body in BODIES),
    ]
    fields = {**{name: PROMISE_FIELDS[name] for name in ("_id", "deadline", "timeout")}, "nonce": WRONG_TYPES + NAMES}
    for name, values in fields.items():
        query = "" if name == "nonce" else "?nonce=x"
        cases += [Case("POST", EXTEND + query, b'{"%s":%s}' % (name.encode(), value)) for value in values]
    return cases


def _streams() -> list[Case]:
    cases = []
    for name, texts in {
        "timeout": [*NO_DURATIONS, FAR, "0", "-1s", "-1ms"],
        "heartbeat": [*NO_DURATIONS, "0", "999ms", "5m1ms", "-1s", FAR],
        "max_in_flight": [*NO_INTEGERS, "-1", "10001", str(2**31), str(2**32), str(-(2**63)), "9" * 30],
        "max_bytes": [*NO_INTEGERS, "-1", str(2**63), str(-(2**63) - 1), "9" * 30],
        "release_on_close": ["yes", "2", "%20true", "%00"],
        "consumer": [LONG, "%00"],
    }.items():
        cases += [Case("GET", f"{STREAM}?{name}={text}", None, _at(name)) for text in texts]
    cases += [Case("GET", f"{STREAM}?{query}") for query in ("consumer=%ff", "topic=%ff", "topic=a&topic=%C3")]
    cases += [Case("GET", f"{STREAM}?topic=a&topic={name}", None, _at("topics[2]")) for name in (LONG, "%00")]
    cases += [Case("GET", f"/v1/topics/{name}/stream") for name in (LONG, "%00", "%ff", "%C3")]
    cases += [
        Case("GET", f"/v1/topics//stream{query}", None, _at("topics")) for query in ("", "?topic=", "?consumer=c")
    ]
    return cases


CASES: list[Case] = [*_claims(), *_extensions(), *_streams()]
