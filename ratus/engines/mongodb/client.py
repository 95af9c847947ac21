"""The client: our defaults, which a URI can override, and what no URI may change."""

from contextlib import AbstractContextManager
from typing import Any, Final

import pymongo
from bson.raw_bson import RawBSONDocument
from pymongo import AsyncMongoClient, ReadPreference, WriteConcern
from pymongo.errors import PyMongoError

from ratus.config import MongoDBSettings
from ratus.engines.mongodb import documents
from ratus.engines.mongodb.fallback import Collection
from ratus.errors import StartError

_LONG: Final = 7 * 24 * 3600.0  # seconds; MongoDB takes three times that

_DEFAULTS: Final[dict[str, Any]] = {
    "appname": "ratus",
    "serverSelectionTimeoutMS": 3000,
    "heartbeatFrequencyMS": 2000,  # by as much a server that fell silent, or came back as it was, is noticed later
    # Asked every time, since a server that is told once and then heard only does not show that it still hears us.
    "serverMonitoringMode": "poll",
    "connectTimeoutMS": 5000,  # beyond that, how soon a server that is silent counts as gone
    "socketTimeoutMS": 10_000,  # for an answer on a connection that may have died in silence, unless `unhurried`
    "waitQueueTimeoutMS": 5000,
}


def connect(settings: MongoDBSettings) -> Collection:
    """The collection, without waiting for a connection; StartError if the settings can never work."""
    given = {option.partition("=")[0].lower() for option in settings.uri.partition("?")[2].split("&")}
    options = {name: value for name, value in _DEFAULTS.items() if name.lower() not in given}
    try:
        client: AsyncMongoClient[RawBSONDocument] = AsyncMongoClient(
            settings.uri, document_class=documents.RawDocument, connect=False, **options
        )
        database = client.get_database(settings.database)
        timeout = client.write_concern.document.get("wtimeout")
        return database.get_collection(
            settings.collection,
            codec_options=documents.RAW,
            read_preference=ReadPreference.PRIMARY,
            write_concern=WriteConcern("majority", wtimeout=timeout, j=True),
        )
    except (PyMongoError, ValueError, TypeError, OSError) as error:
        raise StartError(f"MongoDB: {error}") from error


def unhurried() -> AbstractContextManager[None]:
    """Wait as long as it takes for what is done in here, which may be slow for other reasons than the network."""
    return pymongo.timeout(_LONG)
