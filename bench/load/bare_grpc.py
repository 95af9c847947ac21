"""A bare grpc.aio server that answers every call with nothing: `python -m bench.load.bare_grpc PORT`."""

import sys
from typing import Any

import grpc
import uvloop


class Empty(grpc.GenericRpcHandler):
    """Answers whatever is called."""

    def __init__(self) -> None:
        self._handler = grpc.unary_unary_rpc_method_handler(self._answer)

    async def _answer(self, request: bytes, context: Any) -> bytes:
        return b""

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> Any:
        return self._handler


async def main(port: int) -> None:
    server = grpc.aio.server(handlers=[Empty()])
    server.add_insecure_port(f"127.0.0.1:{port}")
    await server.start()
    print("serves", flush=True)
    await server.wait_for_termination()


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1])))
