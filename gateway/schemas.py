"""The schemas of the OpenAPI document; a test holds their properties against the structs that are read and written."""

from typing import Any, Final

from ratus.config import MAX_BATCH, MAX_CLAIM, MAX_NAME_BYTES

Schema = dict[str, Any]

TIME: Final[Schema] = {"type": "string", "format": "date-time"}
# A Go duration, or nothing.
DURATION: Final = r"^([+-]?(0|(([0-9]+\.?[0-9]*|\.[0-9]+)(ns|us|µs|μs|ms|s|m|h))+))?$"


def ref(name: str) -> Schema:
    """A reference to a schema."""
    return {"$ref": f"#/components/schemas/{name}"}


def _text(description: str) -> Schema:
    return {"type": "string", "description": description}


def _name(description: str) -> Schema:
    return {"type": "string", "description": f"{description} At most {MAX_NAME_BYTES} bytes of UTF-8 without NUL."}


def _time(description: str) -> Schema:
    return {**TIME, "description": description}


def _duration(description: str) -> Schema:
    return {"type": "string", "pattern": DURATION, "description": description}


def _given(schema: Schema) -> Schema:
    """A field as a client gives it: `null` counts as absent, and in a text an empty one."""
    if schema.get("format") == "date-time":
        return {"anyOf": [TIME, {"type": ["string", "null"], "maxLength": 0}], "description": schema["description"]}
    if "type" in schema:
        return {**schema, "type": [schema["type"], "null"]}
    return {"anyOf": [schema, {"type": "null"}]} if "$ref" in schema else schema  # a payload is any value


def _given_object(description: str, required: list[str], properties: dict[str, Schema]) -> Schema:
    given = {name: schema if name in required else _given(schema) for name, schema in properties.items()}
    return _object(description, required, given)


def _given_list(of: Schema, description: str) -> Schema:
    return _object(description, [], {"data": {"type": ["array", "null"], "items": of, "maxItems": MAX_BATCH}})


def _count(description: str) -> Schema:
    return {"type": "integer", "format": "int64", "minimum": 0, "description": description}


def _object(description: str, required: list[str], properties: dict[str, Schema]) -> Schema:
    schema: Schema = {"type": "object", "description": description, "properties": properties}
    return {**schema, "required": required} if required else schema


def _list(of: str, description: str) -> Schema:
    data = {"type": "array", "items": ref(of), "description": description}
    return _object(description, ["data"], {"data": data})


_ID: Final = _name("Unique ID of the task; the tasks of all topics share one namespace.")
_TOPIC: Final = _name("Topic that the task belongs to.")
_PRODUCER: Final = _name("Who produced the task.")
_CONSUMER: Final = _name("Who consumes the task, or consumed it last.")
_NONCE: Final = _name("Proof of the promise that holds; empty while there is none.")
_PAYLOAD: Final = {
    "description": "Any JSON value. `null` is the same as absent. Integers keep their value within 64 bits; "
    "nesting is limited to 100 levels."
}
_PRODUCED: Final = _time("When the task was created.")
_SCHEDULED: Final = _time("When the task is to be executed; it is never handed out earlier.")
_CONSUMED: Final = _time("When the task was claimed last.")
_DEADLINE: Final = _time("When the promise ends; a task that has not been committed by then is pending again.")
_DEFER: Final = _duration(
    "Sets `scheduled` relative to now, as a Go duration such as `1h30m`. `scheduled` wins over it."
)
_TIMEOUT: Final = _duration(
    "Sets the deadline relative to now, as a Go duration. Default: `10m`. `deadline` wins over it."
)

_COMMIT: Final[dict[str, Schema]] = {
    "nonce": _name("If given, the commit is applied only if it is still the nonce of the task."),
    "topic": _name("If given, moves the task to this topic."),
    "state": {**ref("TaskState"), "default": 2},
    "scheduled": _SCHEDULED,
    "payload": {"description": "If given, replaces the payload by this JSON value."},
    "defer": _DEFER,
}
_ERROR: Final = _object(
    "The error.",
    ["code", "message"],
    {
        "code": {"type": "integer", "format": "int32", "description": "What the status of an answer would be."},
        "message": _text(
            "Starts with `bad request`, `not found`, `conflict`, `too large`, `too many`, "
            "`client closed request`, `internal server error` or `service unavailable`."
        ),
    },
)

SCHEMAS: Final[dict[str, Schema]] = {
    "TaskState": {
        "type": "integer",
        "format": "int32",
        "enum": [0, 1, 2, 3],
        "x-enum-varnames": ["PENDING", "ACTIVE", "COMPLETED", "ARCHIVED"],
        "description": "0 pending: ready to be executed, or waiting for its time. 1 active: claimed by a consumer. "
        "2 completed: deleted once the retention period has passed. 3 archived: kept.",
    },
    "Task": _object(
        "A task as it is stored. Empty fields are left out, except `_id`, `topic`, `state` and `nonce`.",
        ["_id", "topic", "state", "nonce", "produced", "scheduled"],
        {
            "_id": _ID,
            "topic": _TOPIC,
            "state": ref("TaskState"),
            "nonce": _NONCE,
            "producer": _PRODUCER,
            "consumer": _CONSUMER,
            "produced": _PRODUCED,
            "scheduled": _SCHEDULED,
            "consumed": _CONSUMED,
            "deadline": _DEADLINE,
            "payload": _PAYLOAD,
        },
    ),
    "TaskInput": _given_object(
        "A task to store. All that is given is stored; what is missing, `null` or an empty string gets its default: "
        "`_id` and `topic` those of the path, `state` pending, `produced` and `scheduled` now.",
        [],
        {
            "_id": _ID,
            "topic": _TOPIC,
            "state": ref("TaskState"),
            "nonce": _NONCE,
            "producer": _PRODUCER,
            "consumer": _CONSUMER,
            "produced": _PRODUCED,
            "scheduled": _SCHEDULED,
            "consumed": _CONSUMED,
            "deadline": _DEADLINE,
            "payload": _PAYLOAD,
            "defer": _DEFER,
        },
    ),
    "TaskInputs": _given_list(
        {"allOf": [ref("TaskInput"), {"required": ["_id"], "properties": {"_id": {"type": "string", "minLength": 1}}}]},
        "A batch of tasks, each with its ID; if one is malformed, none is stored.",
    ),
    "Tasks": _list("Task", "Tasks, ordered by ID."),
    "ClaimedTasks": _list("Task", "Tasks that were claimed, in the order of their scheduled times."),
    "Topic": _object(
        "The tasks that have the same topic.",
        ["name", "count"],
        {"name": _name("Name of the topic."), "count": _count("Number of tasks in the topic, in whatever state.")},
    ),
    "Topics": _list("Topic", "Topics, ordered by name."),
    "Promise": _object(
        "A claim on an active task.", ["_id"], {"_id": _ID, "consumer": _CONSUMER, "deadline": _DEADLINE}
    ),
    "PromiseInput": _given_object(
        "A promise to make; what is missing, `null` or an empty string gets its default.",
        [],
        {"_id": _ID, "consumer": _CONSUMER, "deadline": _DEADLINE, "timeout": _TIMEOUT},
    ),
    "ClaimInput": _given_object(
        "A promise to make on the task that it names, or on the next ones of the topic. What is missing, `null` or an "
        "empty string gets its default; a claim that names its task has no `wait`, `limit` or `request_id`.",
        [],
        {
            "_id": _ID,
            "consumer": _CONSUMER,
            "deadline": _DEADLINE,
            "timeout": _TIMEOUT,
            "wait": _duration("How long to wait for the first task, as a Go duration of at most `10m`."),
            "limit": {
                "type": "integer",
                "format": "int32",
                "minimum": 0,
                "maximum": MAX_CLAIM,
                "description": "Most tasks to claim; 0 means 1. Given, the answer is always a list.",
            },
            "request_id": _name("Makes the claim safe to repeat."),
        },
    ),
    "ExtensionInput": _given_object(
        "A new deadline for a promise. The nonce must be given, here or in the query.",
        [],
        {"_id": _ID, "nonce": _name("Nonce of the promise."), "deadline": _DEADLINE, "timeout": _TIMEOUT},
    ),
    "Promises": _list("Promise", "Promises, ordered by ID."),
    "Commit": _given_object(
        "Updates that acknowledge a task; what is missing, `null` or an empty string leaves a field as it is.",
        [],
        _COMMIT,
    ),
    "CommitInput": _given_object(
        "A commit of a batch, which names its task.", ["_id"], {**_COMMIT, "_id": {**_ID, "minLength": 1}}
    ),
    "CommitInputs": _given_list(ref("CommitInput"), "A batch of commits; if one is malformed, none is applied."),
    "CommitOutcome": _object(
        "What a commit of a batch has come to. Without an error it was applied.",
        ["_id"],
        {"_id": _ID, "error": _ERROR, "task": ref("Task")},
    ),
    "CommitOutcomes": _list("CommitOutcome", "The outcomes, in the order of the commits."),
    "Updated": _object(
        "What an insert or upsert has done.",
        ["created", "updated"],
        {"created": _count("Number of tasks created."), "updated": _count("Number of tasks replaced.")},
    ),
    "Deleted": _object(
        "What a deletion has done.", ["deleted"], {"deleted": _count("Number of tasks or promises deleted.")}
    ),
    "Error": _object("Why a call failed.", ["error"], {"error": _ERROR}),
}
