"""Tasks as MongoDB documents and back.

Documents are read raw and decoded here: pymongo would turn `{"$ref": …, "$id": …}` in a payload into a reference
and drop some of its fields, and would spend more on the four dates of a task than on everything else.
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

import bson
import msgspec
from bson import Binary, Int64, ObjectId, json_util
from bson.codec_options import CodecOptions, DatetimeConversion
from bson.datetime_ms import DatetimeMS
from bson.raw_bson import RawBSONDocument
from msgspec import Raw

from ratus.errors import TooLarge
from ratus.model import Grant, Task
from ratus.times import EPOCH, MAX_TIME, from_ms

NO_PAYLOAD: Final[Mapping[str, Any]] = {"payload": 0}  # a projection

# A field of ours, which the original does not mind, in which a promise leaves its nonce. As long as both are equal
# nobody has changed the task: a replacement lacks the field, an extension clears it, and all else changes the nonce.
PROMISE: Final = "promise"

MAX_PAYLOAD: Final = 16 * 1024 * 1024 - 16 * 1024  # bytes of BSON, which leaves room for the other fields
_SMALL_JSON: Final = 2 * 1024 * 1024  # bytes of JSON that cannot become MAX_PAYLOAD of BSON
MIN_TIME: Final = datetime.min.replace(tzinfo=UTC)


class RawDocument(RawBSONDocument):
    """A document as its bytes.

    The driver adds labels to the write concern error in the answer to a find-and-modify, which its own class of raw
    documents has no way to do: without this, a failover ends in an AttributeError.
    """

    def __init__(self, bson_bytes: bytes | memoryview, codec_options: CodecOptions[Any] | None = None) -> None:
        super().__init__(bson_bytes, codec_options)
        self._added: Mapping[str, Any] = {}

    def update(self, added: Mapping[str, Any]) -> None:
        """Add fields that the bytes do not have."""
        self._added = added

    def __getitem__(self, item: str) -> Any:
        return self._added[item] if item in self._added else super().__getitem__(item)


PLAIN: Final[CodecOptions[dict[str, Any]]] = CodecOptions(
    document_class=dict,
    datetime_conversion=DatetimeConversion.DATETIME_MS,  # any date, also outside of what Python has
    unicode_decode_error_handler="replace",  # drivers of other languages store what is not UTF-8
)
RAW: Final[CodecOptions[RawBSONDocument]] = CodecOptions(
    document_class=RawDocument,
    datetime_conversion=DatetimeConversion.DATETIME_MS,
    unicode_decode_error_handler="replace",
)
_from_json: Final = msgspec.json.Decoder().decode


def encode(task: Task) -> dict[str, Any]:
    """The document of a task, its fields as the original has them."""
    document: dict[str, Any] = {"_id": task.id, "topic": task.topic, "state": task.state, "nonce": task.nonce}
    if task.producer:
        document["producer"] = task.producer
    if task.consumer:
        document["consumer"] = task.consumer
    document["produced"] = task.produced
    document["scheduled"] = task.scheduled
    if task.consumed is not None:
        document["consumed"] = task.consumed
    if task.deadline is not None:
        document["deadline"] = task.deadline
    if task.payload is not None:
        document["payload"] = encode_payload(task.payload)
    return document


def promised(grant: Grant) -> dict[str, Any]:
    """The fields that a promise sets; `request` and PROMISE are ours alone."""
    changes: dict[str, Any] = {
        "state": 1,
        "nonce": grant.nonce,
        "consumer": grant.consumer,
        "consumed": grant.consumed,
        "deadline": grant.deadline,
        PROMISE: grant.nonce,
    }
    if grant.request:
        # With the nonce, because other promises leave the field as it is, those of the original included.
        changes["request"] = {"name": grant.request, "nonce": grant.nonce}
    return changes


def encode_payload(payload: Raw) -> Any:
    """The value of compact JSON."""
    return _from_json(payload)


def check_size(payload: Raw | None) -> None:
    """Refuse with TooLarge a payload that does not fit into a document."""
    if payload is None:
        return
    size = len(memoryview(payload))
    if size > _SMALL_JSON and len(bson.encode({"payload": encode_payload(payload)})) > MAX_PAYLOAD:
        raise TooLarge(f"a payload of {size} bytes does not fit into a document of MongoDB")


def fields(document: RawBSONDocument) -> dict[str, Any]:
    """The fields of a document, its dates as DatetimeMS."""
    return bson.decode(document.raw, PLAIN)


def decode(document: RawBSONDocument) -> Task:
    """The task of a document, whoever wrote it."""
    found = fields(document)
    payload = found.get("payload")
    if payload is not None and b"$ref\0" in bytes(document.raw):  # or else a memoryview
        payload = document["payload"]  # in the slow way, which knows no references
    return Task(
        id=found["_id"],
        topic=found.get("topic", ""),
        state=int(found.get("state", 0)),
        nonce=found.get("nonce", ""),
        producer=found.get("producer", ""),
        consumer=found.get("consumer", ""),
        produced=moment(found.get("produced")) or EPOCH,
        scheduled=moment(found.get("scheduled")) or EPOCH,
        consumed=moment(found.get("consumed")),
        deadline=moment(found.get("deadline")),
        payload=_decode_payload(payload),
    )


def moment(value: Any) -> datetime | None:
    """The time of a date, within the years 1 to 9999; None for what is no date."""
    if not isinstance(value, DatetimeMS):
        return None
    try:
        return from_ms(int(value))
    except OverflowError:
        return MIN_TIME if int(value) < 0 else MAX_TIME


def payload_size(document: RawBSONDocument) -> int:
    """The bytes of JSON that the payload of a document has."""
    payload = _decode_payload(document.get("payload"))
    return 0 if payload is None else len(memoryview(payload))


def _decode_payload(value: Any) -> Raw | None:
    if value is None:
        return None
    text = _to_json(value)
    return None if text == b"null" else Raw(text)  # a NaN of the original


def _plain(value: Any) -> Any:
    """What JSON has for values that only BSON has, which other writers may have stored."""
    match value:
        case Int64():
            return int(value)
        case RawBSONDocument():
            return dict(value)
        case DatetimeMS():
            try:
                return from_ms(int(value))
            except OverflowError:
                return int(value)
        case ObjectId():
            return str(value)
        case Binary():
            return bytes(value)
    return json_util.default(value, json_util.RELAXED_JSON_OPTIONS)


_to_json: Final = msgspec.json.Encoder(enc_hook=_plain).encode
