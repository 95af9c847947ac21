"""A small web site for the crawler: pages with links, on two hosts of this machine."""

import contextlib
import threading
from collections.abc import Iterator, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

PAGES = 8  # of a host


@contextlib.contextmanager
def serve(port: int = 0, hosts: int = 2) -> Iterator[list[str]]:
    """Serve for as long as the block lasts, on this port and the next ones or on any; the URLs of the hosts."""
    ports = range(port, port + hosts) if port else [0] * hosts
    servers = [ThreadingHTTPServer(("127.0.0.1", port), BaseHTTPRequestHandler) for port in ports]
    urls = [f"http://127.0.0.1:{server.server_port}" for server in servers]
    for server in servers:
        server.RequestHandlerClass = _handler(urls[servers.index(server)], urls)
        threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield urls
    finally:
        for server in servers:
            server.shutdown()
            server.server_close()


def _handler(here: str, urls: Sequence[str]) -> type[BaseHTTPRequestHandler]:
    """Each page links to its two children on the same host, to its twin on the others, and to one that is missing."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            number = int(self.path[1:] or 0) if self.path[1:].isdigit() or self.path == "/" else PAGES
            if number >= PAGES:
                self.send_error(404)
                return
            children = [child for child in (2 * number + 1, 2 * number + 2) if child < PAGES]
            links = [f"/{child}" for child in children or ["missing"]]
            links += [f"{url}/{number or ''}" for url in urls if url != here]
            body = f"<h1>Page {number}</h1>" + "".join(f'<a href="{link}">{link}</a> ' for link in links)
            self.send_response(200)
            self.send_header("Content-Type", "text/html; charset=utf-8")
            self.end_headers()
            self.wfile.write(body.encode())

        def log_message(self, format: str, *args: object) -> None:
            pass

    return Handler
