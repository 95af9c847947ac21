"""What the MongoDB engine writes is what the original writes, and what the original writes it can read."""

import asyncio
import logging
import math
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import bson
import pytest
from bson import Binary, Decimal128, Int64, ObjectId, Regex
from bson.datetime_ms import DatetimeMS
from bson.raw_bson import RawBSONDocument
from pymongo import MongoClient
from pymongo.collection import Collection
from pymongo.errors import OperationFailure

from ratus.config import MongoDBSettings
from ratus.engines.mongodb import MongoDBEngine
from ratus.engines.mongodb.fallback import Operation
from ratus.errors import TooLarge
from ratus.model import Task
from ratus.times import EPOCH, MAX_TIME
from tests.engines.helpers import (
    ANY_SIZE,
    HOUR,
    MS,
    NOW,
    claim,
    commit,
    grant,
    grants,
    hold,
    ids,
    insert,
    opened,
    task,
    value,
)
from tests.mongod import Mongod

NEW = {"_id": "1", "topic": "example", "state": 0, "nonce": "", "produced": NOW - HOUR, "scheduled": NOW}

INDEXES: dict[str, dict[str, Any]] = {
    "_id_": {"key": [("_id", 1)]},
    "topic_hashed": {"key": [("topic", "hashed")]},
    "topic_1_scheduled_1": {"key": [("topic", 1), ("scheduled", 1)], "partialFilterExpression": {"state": 0}},
    "deadline_1": {"key": [("deadline", 1)], "partialFilterExpression": {"state": 1}},
    "topic_1": {"key": [("topic", 1)], "partialFilterExpression": {"state": 1}},
    "consumed_1": {
        "key": [("consumed", 1)],
        "partialFilterExpression": {"state": 2},
        "expireAfterSeconds": 259200,
    },
}
OURS: dict[str, dict[str, Any]] = {
    "topic_1_produced_1": {"key": [("topic", 1), ("produced", 1)]},
    "topic_1_state_1": {"key": [("topic", 1), ("state", 1)], "partialFilterExpression": {"state": 3}},
}


@pytest.fixture
def collection(mongodb_settings: MongoDBSettings) -> Iterator[Collection[dict[str, Any]]]:
    """The collection as others see it."""
    with MongoClient[dict[str, Any]](mongodb_settings.uri, tz_aware=True, tzinfo=UTC) as client:
        yield client[mongodb_settings.database][mongodb_settings.collection]


@pytest.fixture
async def engine(mongodb_settings: MongoDBSettings) -> AsyncIterator[MongoDBEngine]:
    """The engine on a replica set."""
    async with opened(mongodb_settings) as engine:
        yield engine


def indexes(collection: Collection[dict[str, Any]]) -> dict[str, Any]:
    return {
        name: {option: found for option, found in index.items() if option != "v"}
        for name, index in collection.index_information().items()
    }


async def test_documents_of_single_calls(engine: MongoDBEngine, collection: Collection[dict[str, Any]]) -> None:
    await insert(engine, task("1", "example", payload={"a": [1, 2.0, 2**40]}))
    new = NEW | {"payload": {"a": [1, 2.0, Int64(2**40)]}}
    [document] = collection.find()
    assert document == new
    assert list(document) == ["_id", "topic", "state", "nonce", "produced", "scheduled", "payload"]
    [claimed] = await engine.claim("example", [grant("")], ANY_SIZE)
    promised = {"consumer": "", "consumed": NOW, "deadline": NOW + HOUR, "promise": claimed.nonce}
    assert list(collection.find()) == [new | promised | {"state": 1, "nonce": claimed.nonce}]
    await engine.commit([commit(claimed)])
    assert list(collection.find()) == [new | promised | {"state": 2, "nonce": ""}]
    await engine.upsert([task("1", "example", producer="p", consumer="c", consumed=NOW, deadline=NOW)])
    assert list(collection.find()) == [NEW | {"producer": "p", "consumer": "c", "consumed": NOW, "deadline": NOW}]


async def test_documents_of_batches(engine: MongoDBEngine, collection: Collection[dict[str, Any]]) -> None:
    await insert(engine, task("1", "example"), task("2", "example"), task("3", "example"))
    given = grants(3)
    claimed = await engine.claim("example", given, ANY_SIZE)
    promised = [
        NEW
        | {"_id": str(n), "state": 1, "nonce": each.nonce, "consumer": each.consumer, "consumed": each.consumed}
        | {"deadline": each.deadline, "promise": each.nonce}
        for n, each in enumerate(given, 1)
    ]
    assert list(collection.find(sort={"_id": 1})) == promised
    await engine.commit([commit(claimed[0], payload=1), commit(claimed[1])])
    await engine.release([hold(claimed[2])])
    changes: list[dict[str, Any]] = [{"state": 2, "payload": 1}, {"state": 2}, {"state": 0}]
    for before, change, after in zip(promised, changes, collection.find(sort={"_id": 1}), strict=True):
        assert after.pop("token")
        assert after == before | change | {"nonce": ""}


async def test_indexes(engine: MongoDBEngine, collection: Collection[dict[str, Any]]) -> None:
    assert indexes(collection) == INDEXES | OURS


async def test_indexes_of_the_original_are_accepted(
    mongodb_settings: MongoDBSettings, collection: Collection[dict[str, Any]], caplog: pytest.LogCaptureFixture
) -> None:
    for name, index in list(INDEXES.items())[1:]:
        options: dict[str, Any] = {option: found for option, found in index.items() if option != "key"}
        if "partialFilterExpression" in options:
            options["partialFilterExpression"] = {"state": Int64(options["partialFilterExpression"]["state"])}
        collection.create_index(index["key"], name=name, **options)
    with caplog.at_level(logging.WARNING):
        async with opened(mongodb_settings) as engine:
            await insert(engine, task("1"))
            assert ids(await claim(engine)) == ["1"]
    assert indexes(collection) == INDEXES | OURS
    assert not caplog.records


@pytest.mark.parametrize(
    ("retention", "seconds"),
    [(timedelta(hours=1), 3600), (timedelta(milliseconds=1500), 2), (timedelta(days=100_000), 2**31 - 1)],
)
async def test_a_changed_retention_period_changes_the_index(
    mongodb_settings: MongoDBSettings, collection: Collection[dict[str, Any]], retention: timedelta, seconds: int
) -> None:
    for settings, expected in ((mongodb_settings, 259200), (replace(mongodb_settings, retention=retention), seconds)):
        async with opened(settings):
            assert collection.index_information()["consumed_1"]["expireAfterSeconds"] == expected
    assert indexes(collection) == INDEXES | OURS | {
        "consumed_1": INDEXES["consumed_1"] | {"expireAfterSeconds": seconds}
    }


async def test_index_creation_can_be_turned_off(
    mongodb_settings: MongoDBSettings, collection: Collection[dict[str, Any]]
) -> None:
    async with opened(replace(mongodb_settings, disable_index_creation=True)) as engine:
        await insert(engine, task("1"), task("2", scheduled=NOW - HOUR), task("3"))
        assert ids(await claim(engine)) == ["2"]
        assert len(await claim(engine, count=3)) == 2
        assert list(collection.index_information()) == ["_id_"]


async def test_an_index_that_others_made_differently_is_left_and_not_relied_on(
    mongodb_settings: MongoDBSettings, collection: Collection[dict[str, Any]], caplog: pytest.LogCaptureFixture
) -> None:
    collection.create_index("produced", name="topic_1_scheduled_1", partialFilterExpression={"state": 3})
    async with opened(mongodb_settings) as engine:
        await insert(engine, task("1"), task("2", scheduled=NOW - HOUR), task("3"))
        assert ids(await claim(engine)) == ["2"]
        assert len(await claim(engine, count=3)) == 2
    assert "index topic_1_scheduled_1 is not as it should be" in caplog.text
    assert len(indexes(collection)) == len(INDEXES | OURS)


async def test_an_index_that_is_dropped_is_done_without(
    engine: MongoDBEngine, collection: Collection[dict[str, Any]]
) -> None:
    await insert(engine, *(task(str(n)) for n in range(4)))
    collection.drop_index("topic_1_scheduled_1")
    assert await engine.next_scheduled("t") == NOW
    assert len(await claim(engine)) == 1
    assert len(await claim(engine, count=4)) == 3


async def test_payloads_that_json_does_not_have(engine: MongoDBEngine, collection: Collection[dict[str, Any]]) -> None:
    moment = datetime(2020, 1, 2, 3, 4, 5, 6000, tzinfo=UTC)
    name = ObjectId()
    collection.insert_one(
        NEW
        | {
            "payload": {
                "date": moment,
                "far date": DatetimeMS(2**62),
                "id": name,
                "nan": [math.nan, math.inf],
                "long": Int64(5),
                "decimal": Decimal128("1.5"),
                "bytes": b"abc",
                "binary": Binary(b"abc", 128),
                "regex": Regex("a.*"),
                "timestamp": bson.Timestamp(1, 2),
                "min": bson.MinKey(),
            }
        }
    )
    collection.insert_one(NEW | {"_id": "2", "payload": math.nan})
    expected = {
        "date": "2020-01-02T03:04:05.006000Z",
        "far date": 2**62,
        "id": str(name),
        "nan": [None, None],
        "long": 5,
        "decimal": {"$numberDecimal": "1.5"},
        "bytes": "YWJj",
        "binary": "YWJj",
        "regex": {"$regularExpression": {"pattern": "a.*", "options": ""}},
        "timestamp": {"$timestamp": {"t": 1, "i": 2}},
        "min": {"$minKey": 1},
    }
    assert value(await engine.get("1")) == expected
    assert (await engine.get("2")).payload is None
    one, _ = await claim(engine, "example", 2)
    [result] = await engine.commit([commit(one)])
    assert isinstance(result, Task)
    assert value(result) == expected
    assert list(collection.find({"_id": "1"}, {"payload.id": 1})) == [{"_id": "1", "payload": {"id": name}}]


async def test_text_that_is_not_utf_8(engine: MongoDBEngine, collection: Collection[dict[str, Any]]) -> None:
    raw = bson.encode(NEW | {"payload": "XXXX"}).replace(b"XXXX", b"a\xff\xfeb")
    document: Any = RawBSONDocument(raw)
    collection.insert_one(document)
    assert value(await engine.get("1")) == "a��b"


async def test_dates_beyond_the_years_1_to_9999(engine: MongoDBEngine, collection: Collection[dict[str, Any]]) -> None:
    far, long_ago = DatetimeMS(2**60), DatetimeMS(-(2**60))
    collection.insert_one(NEW | {"produced": far, "scheduled": long_ago, "deadline": far, "consumed": None})
    found = await engine.get("1")
    assert (found.produced, found.deadline, found.consumed) == (MAX_TIME, MAX_TIME, None)
    assert found.scheduled == datetime.min.replace(tzinfo=UTC)
    assert await engine.next_scheduled("example") == found.scheduled
    assert ids(await claim(engine, "example")) == ["1"]
    collection.insert_one({"_id": "2", "topic": "example", "state": 0})
    assert (await engine.get("2")).scheduled == EPOCH


async def test_work_on_what_the_original_wrote(engine: MongoDBEngine, collection: Collection[dict[str, Any]]) -> None:
    collection.insert_many(
        [
            NEW | {"state": Int64(0)},
            NEW | {"_id": "2", "state": 1, "nonce": "n", "consumer": "", "consumed": NOW, "deadline": NOW},
            NEW | {"_id": "3", "state": 2, "consumer": "", "consumed": NOW, "deadline": NOW},
        ]
    )
    assert await engine.recover(NOW + MS) == ["example"]
    assert ids(await claim(engine, "example", 5)) == ["1", "2"]
    assert (await engine.get_stats("example", NOW)).completed == 1


async def test_a_payload_that_fits_into_no_document_fails_alone(engine: MongoDBEngine) -> None:
    too_large = task("1", payload=[0] * 2_000_000)  # 4 MB of JSON, 26 MB of BSON
    large = task("2", payload="x" * 15_000_000)
    calls = [engine.insert([too_large]), engine.insert([large]), engine.insert([task("3")])]
    refused, *others = await asyncio.gather(*calls, return_exceptions=True)
    assert isinstance(refused, TooLarge)
    assert others == [[True], [True]]
    with pytest.raises(TooLarge):
        await engine.upsert([too_large])
    with pytest.raises(TooLarge):
        await engine.commit([commit(too_large, payload=[0] * 2_000_000)])
    assert len(await claim(engine, count=3)) == 2


async def test_fallback_can_be_forbidden(mongod: Mongod, mongodb_settings: MongoDBSettings) -> None:
    async with opened(replace(mongodb_settings, disable_auto_fallback=True)) as engine:
        await insert(engine, task("1"))
        mongod.fail(["findAndModify"], errorCode=61, appName=mongodb_settings.database)
        with pytest.raises(OperationFailure):
            await claim(engine)
        assert not engine.fallbacks.active(Operation.CLAIM)
        assert ids(await claim(engine)) == ["1"]


async def test_atomic_poll_can_be_turned_off(mongod: Mongod, mongodb_settings: MongoDBSettings) -> None:
    async with opened(replace(mongodb_settings, disable_atomic_poll=True)) as engine:
        assert [each for each in Operation if engine.fallbacks.active(each)] == [Operation.CLAIM]
        await insert(engine, task("1"))
        assert ids(await claim(engine)) == ["1"]
