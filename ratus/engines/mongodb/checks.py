"""What an operator should know of a collection and its server."""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any, Final

from pymongo.errors import OperationFailure

from ratus import times
from ratus.engines.mongodb import documents, errors, indexes
from ratus.engines.mongodb.fallback import Collection
from ratus.model import Check, Outcome

_SKEW: Final = timedelta(seconds=1)


async def diagnose(collection: Collection, retention: timedelta) -> list[Check]:
    """Checks of the server, its clock, the indexes and change streams; errors of the driver."""
    plain = collection.with_options(codec_options=documents.PLAIN)
    admin = plain.database.client.admin
    codec: Any = documents.PLAIN  # which the stubs of the driver do not take
    before = times.now()
    hello: Mapping[str, Any] = await admin.command("hello", codec_options=codec)
    theirs = documents.moment(hello["localTime"])
    assert theirs is not None
    clock = _clock(theirs, before, times.now())
    build: Mapping[str, Any] = await admin.command("buildInfo", codec_options=codec)
    return [
        _server(hello, build["version"]),
        clock,
        _indexes(await plain.index_information(), retention),
        await _change_stream(plain),
    ]


def _server(hello: Mapping[str, Any], version: str) -> Check:
    if "setName" in hello:
        members = len(hello.get("hosts", ()))
        primary = hello.get("primary", "no primary")
        return Check("server", Outcome.OK, f"MongoDB {version}, replica set {hello['setName']} of {members}, {primary}")
    if hello.get("msg") == "isdbgrid":
        return Check("server", Outcome.OK, f"MongoDB {version}, sharded cluster")
    detail = f"MongoDB {version}, standalone: make it a replica set, of one member even, for retries and change streams"
    return Check("server", Outcome.WARNING, detail)


def _clock(theirs: datetime, before: datetime, after: datetime) -> Check:
    """Their clock was read between two looks at ours."""
    ahead = max(theirs - after, min(theirs - before, timedelta(0)))
    if abs(ahead) > _SKEW:
        detail = f"MongoDB's is {times.format_duration(ahead)} ahead of this server's: synchronise them"
        return Check("storage clock", Outcome.WARNING, detail)
    return Check("storage clock", Outcome.OK, "MongoDB's and this server's agree")


def _indexes(existing: Mapping[str, Mapping[str, Any]], retention: timedelta) -> Check:
    wanted = {model.document["name"]: model.document for model in indexes.models(retention)}
    missing = sorted(wanted.keys() - existing.keys())
    if missing:
        detail = f"missing: {', '.join(missing)}: start a server without --mongodb-disable-index-creation"
        return Check("indexes", Outcome.FAILED, detail)
    other = [name for name, document in sorted(wanted.items()) if not _is_like(existing[name], document)]
    if other:
        detail = f"not as they should be: {', '.join(other)}: drop them and start a server anew"
        return Check("indexes", Outcome.WARNING, detail)
    return Check("indexes", Outcome.OK, f"all {len(wanted)} are there")


def _is_like(existing: Mapping[str, Any], wanted: Mapping[str, Any]) -> bool:
    return list(existing["key"]) == list(wanted["key"].items()) and all(
        existing.get(option) == wanted.get(option) for option in ("partialFilterExpression", "expireAfterSeconds")
    )


async def _change_stream(plain: Any) -> Check:
    try:
        async with await plain.watch(max_await_time_ms=1):
            pass
    except OperationFailure as error:
        detail = f"none, so that consumers learn late of what other servers do: {errors.line(error)}"
        return Check("change stream", Outcome.WARNING, detail)
    return Check("change stream", Outcome.OK, "wakes consumers of other servers")
