"""How uvicorn serves the REST face."""

import uvicorn
from starlette.types import ASGIApp


def uvicorn_config(app: ASGIApp) -> uvicorn.Config:
    """The configuration for a server inside a running loop that logs through the loggers of the process.

    It listens on the sockets that `uvicorn.Server.serve` is given. What would cost on every request is off: an access
    log, and headers of proxies that nothing here reads.
    """
    return uvicorn.Config(
        app,
        http="httptools",
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
    )
