"""The parameters of the OpenAPI document, by the names that its operations have for them."""

from typing import Any, Final

from gateway.schemas import DURATION, TIME
from ratus.config import MAX_CLAIM, MAX_IN_FLIGHT

PARAMETERS: Final[dict[str, dict[str, Any]]] = {
    "topic": {
        "name": "topic",
        "in": "path",
        "required": True,
        "schema": {"type": "string"},
        "description": "Name of the topic. For a single task or promise it is ignored; for inserts it is the default.",
    },
    "id": {
        "name": "id",
        "in": "path",
        "required": True,
        "schema": {"type": "string"},
        "description": "ID of the task.",
    },
    "limit": {
        "name": "limit",
        "in": "query",
        "schema": {"type": "integer", "format": "int32", "minimum": 0, "default": 10},
        "description": "Most items to return; 0 means 10. Beyond the maximum of the server (100) it is an error.",
    },
    "offset": {
        "name": "offset",
        "in": "query",
        "schema": {"type": "integer", "format": "int32", "minimum": 0, "default": 0},
        "description": "Items to skip. Beyond the maximum of the server (10,000) it is an error.",
    },
    "consumer": {
        "name": "consumer",
        "in": "query",
        "schema": {"type": "string"},
        "description": "Who executes the task. Wins over the body.",
    },
    "timeout": {
        "name": "timeout",
        "in": "query",
        "schema": {"type": "string", "pattern": DURATION},
        "description": "Sets the deadline relative to now, as a Go duration. Wins over the body.",
    },
    "deadline": {
        "name": "deadline",
        "in": "query",
        "schema": {"anyOf": [TIME, {"type": "string", "maxLength": 0}]},
        "description": "When the promise ends. Wins over the body, and over a timeout.",
    },
    "claim_limit": {
        "name": "limit",
        "in": "query",
        "schema": {"type": "integer", "format": "int32", "minimum": 0, "maximum": MAX_CLAIM},
        "description": "Most tasks to claim; 0 means 1. Given, the answer is always a list, and an empty one is no "
        "error. Wins over the body.",
    },
    "wait": {
        "name": "wait",
        "in": "query",
        "schema": {"type": "string", "pattern": DURATION},
        "description": "How long to wait for the first task, as a Go duration of at most `10m`. A client that goes "
        "away meanwhile claims nothing. Wins over the body.",
    },
    "request_id": {
        "name": "request_id",
        "in": "query",
        "schema": {"type": "string"},
        "description": "Makes the claim safe to repeat: while its promises hold, a repeat with the same consumer "
        "returns what is still held of the same tasks. Wins over the body.",
    },
    "nonce": {
        "name": "nonce",
        "in": "query",
        "schema": {"type": "string"},
        "description": "Nonce of the promise, which must be given here or in the body. Wins over the body.",
    },
    "stream_topic": {
        "name": "topic",
        "in": "query",
        "schema": {"type": "array", "items": {"type": "string"}},
        "explode": True,
        "description": "Further topics, which are served in turn. With them the topic of the path may be empty.",
    },
    "stream_consumer": {
        "name": "consumer",
        "in": "query",
        "schema": {"type": "string"},
        "description": "Who executes the tasks.",
    },
    "stream_timeout": {
        "name": "timeout",
        "in": "query",
        "schema": {"type": "string", "pattern": DURATION, "default": "10m"},
        "description": "Sets the deadline of every task relative to its delivery, as a Go duration above zero.",
    },
    "max_in_flight": {
        "name": "max_in_flight",
        "in": "query",
        "schema": {"type": "integer", "format": "int32", "minimum": 0, "maximum": MAX_IN_FLIGHT, "default": 1},
        "description": "Most tasks that are delivered and neither committed, released nor past their deadline; 0 means "
        "1. A commit counts whichever way it comes in.",
    },
    "max_bytes": {
        "name": "max_bytes",
        "in": "query",
        "schema": {"type": "integer", "format": "int64", "minimum": 0, "default": 0},
        "description": "Most bytes of payloads of such tasks, though one task always passes; 0 means no bound.",
    },
    "release_on_close": {
        "name": "release_on_close",
        "in": "query",
        "schema": {"type": "boolean", "default": False},
        "description": "Whether what the stream still holds is released when the client goes away.",
    },
    "heartbeat": {
        "name": "heartbeat",
        "in": "query",
        "schema": {"type": "string", "pattern": DURATION, "default": "15s"},
        "description": "How long the stream is silent at most, as a Go duration within `1s` and `5m`.",
    },
    "return_tasks": {
        "name": "return_tasks",
        "in": "query",
        "schema": {"type": "boolean", "default": False},
        "description": "Whether to answer the tasks after their commits, as far as they fit into one answer.",
    },
}
