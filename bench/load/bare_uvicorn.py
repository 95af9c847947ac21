"""A bare ASGI application that reads a request and answers: `python -m bench.load.bare_uvicorn PORT`."""

import sys
from typing import Any

import uvicorn


async def app(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] == "lifespan":
        await receive()
        await send({"type": "lifespan.startup.complete"})
        print("serves", flush=True)
        await receive()
        await send({"type": "lifespan.shutdown.complete"})
        return
    await receive()
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"25")]})
    await send({"type": "http.response.body", "body": b'{"created":1,"updated":0}'})


if __name__ == "__main__":
    uvicorn.run(
        app,
        port=int(sys.argv[1]),
        log_level="error",
        http="httptools",
        loop="uvloop",
        proxy_headers=False,
        access_log=False,
    )
