"""The OpenAPI document, made from a table of operations; a test holds the table against the routes."""

from dataclasses import dataclass
from typing import Any, Final

from gateway.parameters import PARAMETERS
from gateway.schemas import SCHEMAS, ref
from ratus import __version__

_STATUSES: Final = {
    200: "OK",
    201: "Created: at least one task is new",
    400: "Bad request: malformed or beyond a bound; nothing was changed",
    404: "Not found",
    409: "Conflict: the task exists, is not pending, or has another nonce; or the promise is not held",
    413: "Too large: the body or a payload",
    429: "Too many callers wait",
    500: "Internal server error",
    503: "Service unavailable: the storage is unreachable or the server shuts down",
}
_ALWAYS: Final = (400, 500, 503)
_PAGE: Final = ("limit", "offset")
_PROMISE: Final = ("consumer", "timeout", "deadline")
_CLAIM: Final = (*_PROMISE, "claim_limit", "wait", "request_id")
_STREAM: Final = (
    "stream_topic",
    "stream_consumer",
    "stream_timeout",
    "max_in_flight",
    "max_bytes",
    "release_on_close",
    "heartbeat",
)


@dataclass(frozen=True, slots=True)
class Operation:
    """What the document says about a method on a path."""

    id: str
    summary: str
    answer: str | tuple[str, ...] = ()  # schema of the answer, or a media type; or several to choose from
    created: bool = False  # whether the answer can be 201
    body: str = ""  # schema of the body
    required: bool = True  # whether there must be a body
    query: tuple[str, ...] = ()
    errors: tuple[int, ...] = ()


def _writes(id: str, summary: str, body: str, *errors: int) -> Operation:
    return Operation(id, summary, "Updated", created=True, body=body, errors=(413, *errors))


def _promises(id: str, summary: str, *errors: int) -> Operation:
    return Operation(
        id, summary, "Task", body="PromiseInput", required=False, query=_PROMISE, errors=(404, 413, *errors)
    )


OPERATIONS: Final[dict[tuple[str, str], Operation]] = {
    ("GET", "/topics"): Operation("listTopics", "List all topics", "Topics", query=_PAGE),
    ("DELETE", "/topics"): Operation("deleteTopics", "Delete all topics and tasks", "Deleted"),
    ("GET", "/topics/{topic}"): Operation("getTopic", "Get information about a topic", "Topic", errors=(404,)),
    ("DELETE", "/topics/{topic}"): Operation("deleteTopic", "Delete a topic and its tasks", "Deleted"),
    ("GET", "/topics/{topic}/tasks"): Operation("listTasks", "List the tasks in a topic", "Tasks", query=_PAGE),
    ("POST", "/topics/{topic}/tasks"): _writes(
        "insertTasks", "Insert a batch of tasks while ignoring existing ones", "TaskInputs"
    ),
    ("PUT", "/topics/{topic}/tasks"): _writes("upsertTasks", "Insert or replace a batch of tasks", "TaskInputs"),
    ("PATCH", "/topics/{topic}/tasks"): Operation(
        "commitTasks",
        "Apply a batch of commits in order, each with its own outcome",
        "CommitOutcomes",
        body="CommitInputs",
        query=("return_tasks",),
        errors=(413,),
    ),
    ("DELETE", "/topics/{topic}/tasks"): Operation("deleteTasks", "Delete all tasks in a topic", "Deleted"),
    ("GET", "/topics/{topic}/tasks/{id}"): Operation("getTask", "Get a task", "Task", errors=(404,)),
    ("POST", "/topics/{topic}/tasks/{id}"): _writes("insertTask", "Insert a new task", "TaskInput", 409),
    ("PUT", "/topics/{topic}/tasks/{id}"): _writes("upsertTask", "Insert or replace a task", "TaskInput"),
    ("DELETE", "/topics/{topic}/tasks/{id}"): Operation("deleteTask", "Delete a task", "Deleted"),
    ("PATCH", "/topics/{topic}/tasks/{id}"): Operation(
        "commitTask",
        "Apply a commit to a task and return the updated task",
        "Task",
        body="Commit",
        required=False,
        errors=(404, 409, 413),
    ),
    ("GET", "/topics/{topic}/promises"): Operation(
        "listPromises", "List the promises in a topic", "Promises", query=_PAGE
    ),
    ("POST", "/topics/{topic}/promises"): Operation(
        "claimTask",
        "Claim the next due task in a topic, or a list of them, or the task that the body names",
        ("Task", "ClaimedTasks"),
        body="ClaimInput",
        required=False,
        query=_CLAIM,
        errors=(404, 409, 413, 429),
    ),
    ("DELETE", "/topics/{topic}/promises"): Operation("deletePromises", "Delete all promises in a topic", "Deleted"),
    ("GET", "/topics/{topic}/promises/{id}"): Operation(
        "getPromise", "Get the promise on a task", "Promise", errors=(404,)
    ),
    ("POST", "/topics/{topic}/promises/{id}"): _promises("insertPromise", "Claim a task if it is pending", 409),
    ("PUT", "/topics/{topic}/promises/{id}"): _promises("upsertPromise", "Claim a task whatever its state"),
    ("DELETE", "/topics/{topic}/promises/{id}"): Operation("deletePromise", "Delete the promise on a task", "Deleted"),
    ("POST", "/topics/{topic}/promises/{id}/extend"): Operation(
        "extendPromise",
        "Set the deadline of a promise that is held, and keep its nonce",
        "Promise",
        body="ExtensionInput",
        required=False,
        query=("nonce", "timeout", "deadline"),
        errors=(409, 413),
    ),
    ("GET", "/topics/{topic}/stream"): Operation(
        "streamTasks",
        "Deliver tasks as they become due, each as an event or as a line of JSON, for as long as the client listens",
        ("text/event-stream", "application/x-ndjson"),
        query=_STREAM,
        errors=(429,),
    ),
    ("GET", "/healthz"): Operation("getHealth", "Check that the server runs"),
    ("GET", "/livez"): Operation("getLiveness", "Check that the server runs"),
    ("GET", "/readyz"): Operation("getReadiness", "Check that the server can serve calls"),
    ("GET", "/metrics"): Operation("getMetrics", "Get the Prometheus metrics of the server", "text/plain"),
}
_TAGS: Final = {
    "topics": "Topics are the tasks with the same topic property; they exist while they have tasks.",
    "tasks": "Producers insert tasks, consumers acknowledge them with commits.",
    "promises": "Consumers promise to execute tasks before a deadline. Streams make promises as tasks become due.",
    "health": "Probes for load balancers.",
    "metrics": "Prometheus metrics.",
}


def document() -> dict[str, Any]:
    """The OpenAPI document of the REST face."""
    paths: dict[str, Any] = {}
    for (method, path), operation in OPERATIONS.items():
        paths.setdefault(path, {})[method.lower()] = _describe(path, operation)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Ratus",
            "description": "REST API of Ratus, a durable task queue server.",
            "license": {"name": "Apache License 2.0", "identifier": "Apache-2.0"},
            "version": __version__,
        },
        "servers": [{"url": "/v1"}, {"url": "/"}],
        "tags": [{"name": name, "description": description} for name, description in _TAGS.items()],
        "paths": paths,
        "components": {"schemas": SCHEMAS},
    }


def _describe(path: str, operation: Operation) -> dict[str, Any]:
    segments = path.split("/")
    names = [segment[1:-1] for segment in segments if segment.startswith("{")]
    kind = segments[3] if len(segments) > 3 else segments[1]
    tag = {"stream": "promises"}.get(kind, kind if kind in _TAGS else "health")
    described: dict[str, Any] = {
        "operationId": operation.id,
        "summary": operation.summary,
        "tags": [tag],
        "responses": _responses(operation, probe=tag in ("health", "metrics")),
    }
    parameters = [PARAMETERS[name] for name in (*names, *operation.query)]
    if parameters:
        described["parameters"] = parameters
    if operation.body:
        described["requestBody"] = {"required": operation.required, "content": _json(operation.body)}
    return described


def _responses(operation: Operation, *, probe: bool) -> dict[str, Any]:
    content: dict[str, Any] = {}
    names = (operation.answer,) if isinstance(operation.answer, str) else operation.answer
    if names:
        kinds = {name: {"schema": {"type": "string"}} for name in names if "/" in name}
        content = {"content": kinds or _json(*names)}
    responses = {"200": {"description": _STATUSES[200], **content}}
    if operation.created:
        responses["201"] = {"description": _STATUSES[201], **content}
    for status in sorted({503} if probe else {*_ALWAYS, *operation.errors}):
        responses[str(status)] = {"description": _STATUSES[status], "content": _json("Error")}
    return responses


def _json(*names: str) -> dict[str, Any]:
    schemas = [ref(name) for name in names]
    return {"application/json": {"schema": {"oneOf": schemas} if len(schemas) > 1 else schemas[0]}}
