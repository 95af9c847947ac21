"""A client to be killed or frozen: prints the IDs of the tasks that a Poll stream brings, and commits none.

`python -m tests.app.holder TARGET TOPIC MAX_IN_FLIGHT TIMEOUT_MS RELEASE_ON_CLOSE`
"""

import sys

import grpc
from google.protobuf.duration_pb2 import Duration

from ratus.v1.promise_service_pb2 import PollRequest
from ratus.v1.promise_service_pb2_grpc import PromiseServiceStub


def main(target: str, topic: str, max_in_flight: str, timeout: str, release: str) -> None:
    request = PollRequest(topics=[topic], max_in_flight=int(max_in_flight), release_on_close=release == "True")
    request.timeout.CopyFrom(Duration(seconds=int(timeout) // 1000, nanos=int(timeout) % 1000 * 1_000_000))
    with grpc.insecure_channel(target) as channel:
        for answer in PromiseServiceStub(channel).Poll(request):
            for task in answer.tasks:
                print(task.id, flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
