"""What all generators of gRPC load share: the calls as bytes in and out, and messages made of keywords."""

import secrets
from typing import Any, Final

import grpc

from ratus.v1 import promise_service_pb2 as promises_pb
from ratus.v1 import task_pb2
from ratus.v1 import task_service_pb2 as tasks_pb

PAYLOAD: Final = b'{"url":"https://example.com/page","depth":3}'
OPTIONS: Final = (
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.max_send_message_length", -1),
)
_TASKS: Final = "/ratus.v1.TaskService/"
_PROMISES: Final = "/ratus.v1.PromiseService/"


class Calls:
    """The calls of one channel. Requests are bytes; answers too, where only that they came matters."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self.insert: Any = channel.unary_unary(_TASKS + "InsertTask")
        self.inserts: Any = channel.unary_unary(_TASKS + "InsertTasks")
        self.commit: Any = channel.unary_unary(_TASKS + "CommitTask")
        self.commits: Any = channel.unary_unary(_TASKS + "CommitTasks")
        self.claim: Any = channel.unary_unary(
            _PROMISES + "ClaimTasks", response_deserializer=promises_pb.ClaimTasksResponse.FromString
        )
        self.poll: Any = channel.unary_stream(
            _PROMISES + "Poll", response_deserializer=promises_pb.PollResponse.FromString
        )
        self.work: Any = channel.stream_stream(
            _PROMISES + "Work", response_deserializer=promises_pb.WorkResponse.FromString
        )


def channel(target: str) -> grpc.aio.Channel:
    """A connection of its own."""
    return grpc.aio.insecure_channel(target, options=OPTIONS)


def task(topic: str, payload: bytes = PAYLOAD) -> task_pb2.Task:
    """A new task with a random ID."""
    return task_pb2.Task(id=secrets.token_hex(8), topic=topic, payload=payload)


def commit(claimed: task_pb2.Task) -> tasks_pb.CommitTaskRequest:
    """A commit with the nonce of the task."""
    return tasks_pb.CommitTaskRequest(id=claimed.id, commit=task_pb2.Commit(nonce=claimed.nonce))


def commits(claimed: list[task_pb2.Task]) -> tasks_pb.CommitTasksRequest:
    """Commits with the nonces of the tasks, in one message."""
    return tasks_pb.CommitTasksRequest(commits=[commit(task) for task in claimed])
