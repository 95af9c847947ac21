"""Consumes the tasks of a topic: prints each and commits it.

    python poll.py ADDRESS TOPIC [COUNT]

stops after COUNT tasks, or never. Needs `pip install ratus`, which brings gRPC and the generated code.
"""

import sys

import grpc

from ratus.v1.promise_service_pb2 import PollRequest
from ratus.v1.promise_service_pb2_grpc import PromiseServiceStub
from ratus.v1.task_service_pb2 import CommitTaskRequest
from ratus.v1.task_service_pb2_grpc import TaskServiceStub


def main(address: str, topic: str, count: int | None = None) -> None:
    """Consume `count` tasks, or all that ever come."""
    with grpc.insecure_channel(address) as channel:
        promises, tasks = PromiseServiceStub(channel), TaskServiceStub(channel)
        done = 0
        # Tasks come as they become due; the next one once this one is committed, since max_in_flight is 1.
        for response in promises.Poll(PollRequest(topics=[topic], consumer="poll.py")):
            for task in response.tasks:
                print(task.id, task.payload.decode(), flush=True)
                # The nonce proves that the promise is still ours; without it we might commit what others redo.
                commit = CommitTaskRequest(id=task.id)
                commit.commit.nonce = task.nonce
                tasks.CommitTask(commit)
                done += 1
                if done == count:
                    return


if __name__ == "__main__":
    if len(sys.argv) not in (3, 4):
        sys.exit("usage: poll.py ADDRESS TOPIC [COUNT]")
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]) if len(sys.argv) == 4 else None)
