"""A small web on loopback: several sites on one port, each with robots.txt, a page that shows its pictures, and trouble."""

from __future__ import annotations

import csv
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

ADDRESS = "127.0.0.1"
ROBOTS = b"User-agent: *\nDisallow: /private/\n"


@dataclass(frozen=True)
class Web:
    """Sites that are being served. pictures: {host: its pictures}."""

    port: int
    pictures: dict[str, list[Path]]

    def seeds(self) -> list[str]:
        """The first half of the sites, to be found by their pages."""
        hosts = list(self.pictures)
        return [self._url(host, "/") for host in hosts[: len(hosts) // 2]]

    def write_list(self, path: Path) -> int:
        """A list of the other sites' pictures, with licence and author, and of one URL per site that robots.txt forbids and one
        that is gone. Returns its rows.
        """
        hosts = list(self.pictures)[len(self.pictures) // 2 :]
        rows = [(self._url(host, f"/{p.name}"), "CC0-1.0", host) for host in hosts for p in self.pictures[host]]
        rows += [(self._url(host, name), "", "") for host in hosts for name in ("/private/a.jpg", "/gone.jpg")]
        with path.open("w", newline="") as file:
            csv.writer(file).writerows([("url", "licence", "author"), *rows])
        return len(rows)

    def resolve(self) -> list[str]:
        """Flags that say where the sites are."""
        return ["--http.resolve", *(word for host in self.pictures for word in (host, ADDRESS))]

    def _url(self, host: str, path: str) -> str:
        return f"http://{host}:{self.port}{path}"


@contextmanager
def serve(pictures: Sequence[Path], sites: int) -> Iterator[Web]:
    """Deal the pictures out to so many sites and serve them until the block ends."""
    dealt = {f"site{number}.test": list(pictures[number::sites]) for number in range(sites)}
    server = _Server((ADDRESS, 0), _handler(dealt))
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield Web(server.server_address[1], dealt)
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Server(ThreadingHTTPServer):
    def handle_error(self, request: Any, client_address: Any) -> None:
        """A crawler that ends hangs up on the connections it kept: nothing to say on the terminal."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


def _handler(pictures: dict[str, list[Path]]) -> type[BaseHTTPRequestHandler]:
    files = {(host, f"/{path.name}"): path for host, paths in pictures.items() for path in paths}

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            host = self.headers.get("Host", "").rpartition(":")[0]
            if path := files.get((host, self.path)):
                self._answer(200, "image/jpeg", path.read_bytes())
            elif self.path == "/robots.txt":
                self._answer(200, "text/plain", ROBOTS)
            elif self.path == "/" and host in pictures:
                shown = "".join(f'<img src="/{path.name}">' for path in pictures[host])
                self._answer(200, "text/html", f"<!doctype html><title>{host}</title>{shown}".encode())
            else:
                self._answer(404, "text/plain", b"not here")

        def _answer(self, status: int, kind: str, body: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Not on the terminal."""

    return Handler
