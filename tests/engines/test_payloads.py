"""Payloads come back as they went in, on every engine."""

import math
from typing import Any

import msgspec

from ratus import payload
from ratus.engines.base import Engine
from ratus.model import Commit, Task, raw
from tests.engines.helpers import NOW, claim, commit, done, insert, task, value


def nested(depth: int, kind: str) -> Any:
    """A payload so many levels deep."""
    inner: Any = 1
    for level in range(depth):
        inner = [inner] if kind == "list" or (kind == "both" and level % 2) else {"k": inner}
    return inner


PAYLOADS: dict[str, Any] = {
    "false": False,
    "zero": 0,
    "empty string": "",
    "empty list": [],
    "empty object": {},
    "nulls": {"a": None, "b": [None, {"c": None}]},
    "integers": [1, -1, 2**31 - 1, 2**31, -(2**31) - 1, 2**53 + 1, 2**63 - 1, -(2**63)],
    "doubles": [1.0, -0.5, 1e308, 5e-324, 1.7976931348623157e308, 1e22, 0.1, 123456789012345680.0],
    "double": 1.0,
    "string": 'é \U0001f600 ﬀ \u2028 " \\ / \x7f \x01 \t\n',
    "NUL in strings": ["\0", "a\0b", {"k": "\0"}],
    "keys": {"": 1, "$": 2, "$set": {"$inc": 3}, "a.b": 4, ".": 5, "$$ROOT": "$nonce", "é": 6, "_id": 7, "0": 8},
    "reference": {"$ref": "c", "$id": 1},
    "references": [
        {"$ref": "c", "$id": {"$ref": "d", "$id": [1]}, "$db": "q", "x": {"y": {"$ref": "e", "$id": None}}},
        {"$id": 1, "$ref": "c"},
        {"$ref": "c", "$id": 1, "$db": None},
        {"$ref": "c", "$id": 1, "$db": 5},
        {"$ref": 5, "$id": 1},
        {"$ref": "c"},
        {"$id": 1},
        {"$db": 1},
        {"a": [[{"$ref": "c", "$id": 2**40, "b": 1.0}]]},
    ],
    "look like extended JSON": [{"$oid": "0" * 24}, {"$date": 1}, {"$numberLong": "1"}, {"$undefined": True}],
    "deep list": nested(100, "list"),
    "deep object": nested(100, "object"),
    "deep both": nested(100, "both"),
    "deep reference": {"a": [{"$ref": "c", "$id": nested(97, "object")}]},
    "long reference": {"$ref": "c", "$id": 1, "$db": None, "x": "x" * 10_000},
    "long": {"text": "x" * 500_000, "list": list(range(50_000))},
}


def same(one: Any, other: Any) -> bool:
    """Whether two values are the same JSON, in which 1 is not 1.0 nor true."""
    return msgspec.json.encode(one, order="deterministic") == msgspec.json.encode(other, order="deterministic")


async def check(engine: Engine) -> None:
    for found in await engine.list_tasks("", "", 0, 100):
        assert same(value(found), PAYLOADS[found.id]), found.id
        assert await engine.get(found.id) == found


async def test_payloads_come_back(engine: Engine) -> None:
    await insert(engine, *(task(name, payload=given) for name, given in PAYLOADS.items()))
    await check(engine)
    singles = [found for _ in range(5) for found in await claim(engine)]
    batch = await claim(engine, count=100)
    assert len(singles) + len(batch) == len(PAYLOADS)
    assert all(same(value(found), PAYLOADS[found.id]) for found in [*singles, *batch])
    await engine.commit([commit(found) for found in batch])
    for found in singles:
        await engine.commit([commit(found)])
    await check(engine)


async def test_payloads_are_replaced(engine: Engine) -> None:
    await insert(engine, *(task(name, payload={"old": name}) for name in PAYLOADS))
    await engine.upsert([task(name, payload=PAYLOADS[name]) for name in list(PAYLOADS)[:10]])
    claimed = await claim(engine, count=100)
    replaced = [commit(found, payload=PAYLOADS[found.id]) for found in claimed]
    results = await engine.commit(replaced[5:])
    for single in replaced[:5]:
        results += await engine.commit([single])
    assert all(same(value(done(result)), PAYLOADS[done(result).id]) for result in results)
    await check(engine)


async def test_each_payload_is_replaced_by_a_single_commit(engine: Engine) -> None:
    await insert(engine, *(task(name, payload=1) for name in PAYLOADS))
    for name, given in PAYLOADS.items():
        [result] = await engine.commit([Commit(id=name, state=3, payload=raw(given))])
        assert same(value(done(result)), given), name
    await check(engine)


async def test_integers_beyond_64_bits_are_doubles(engine: Engine) -> None:
    checked = payload.check(b"[9223372036854775808, -9223372036854775809, 1e22, 123456789012345678901234567890]", 1000)
    await insert(engine, Task(id="1", topic="t", state=0, nonce="", produced=NOW, scheduled=NOW, payload=checked))
    found = value(await engine.get("1"))
    assert found == [2.0**63, -(2.0**63), 1e22, 123456789012345678901234567890.0]
    assert all(isinstance(number, float) and math.isfinite(number) for number in found)


async def test_no_payload_is_none_and_a_commit_cannot_remove_one(engine: Engine) -> None:
    await insert(engine, task("1"), task("2", payload={"a": 1}))
    assert (await engine.get("1")).payload is None
    for found in await claim(engine, count=2):
        await engine.commit([commit(found)])
    assert [value(found) for found in await engine.list_tasks("", "", 0, 10)] == [None, {"a": 1}]
    await engine.upsert([task("2")])
    assert (await engine.get("2")).payload is None
