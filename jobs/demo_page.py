"""A small local web page to try the network: drop a photo, see overlay and contact map, turn the meshes round in 3D.

Everything stays on this machine and in memory. The page answers on the loopback address unless --host says otherwise; it has no
login, so give it another address only on a network you trust.
"""

from __future__ import annotations

import errno
import ipaddress
import logging
import socket
import sys
from dataclasses import dataclass, field

from handface.jobs.page.server import PageConfig
from handface.pipeline.contract.config import Port
from handface.predict.build import PredictorOptions, build_predictor

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Config(PredictorOptions):
    """Which network, where the page is served, and its limits."""

    host: str = "127.0.0.1"
    """Address to listen on."""
    port: Port = 8008
    """Port to listen on."""
    allow_host: tuple[str, ...] = ()
    """Further host names under which the page may be opened."""
    open: bool = False
    """Open the page in the browser."""
    page: PageConfig = field(default_factory=PageConfig)
    """Limits on uploads and on what is held."""


def run(config: Config) -> int:
    """Serve until interrupted. Returns 0. Raises OSError if the port is taken, and what a wrong model raises."""
    # before the network is loaded, which takes seconds
    listener = _listen(config.host, config.port)
    from aiohttp import web

    from handface.jobs.page.server import make_app
    from handface.jobs.prediction.summary import untrained_notice

    predictor = build_predictor(config)
    if not predictor.trained:
        untrained_notice(config.model)
    if not _is_loopback(config.host):
        log.warning("%s can be reached from other machines: everyone who can may send photos", config.host)
    app = make_app(
        predictor.predict, config.model, predictor.trained, config.page, (config.host, *config.allow_host), warm_up=True
    )
    port = listener.getsockname()[1]
    url = f"http://{f'[{config.host}]' if ':' in config.host else config.host}:{port}/"

    async def say_where(app: web.Application) -> None:
        print(f"open {url}   (Ctrl-C ends it)", flush=True)
        if config.open:
            import webbrowser

            webbrowser.open(url)

    async def say_end(app: web.Application) -> None:
        print("ending, which takes a few seconds", flush=True)

    app.on_startup.append(say_where)
    app.on_shutdown.append(say_end)
    # browsers keep connections open, which it would wait for
    web.run_app(app, sock=listener, print=None, access_log=None, shutdown_timeout=1)
    return 0


def _listen(host: str, port: int) -> socket.socket:
    """A socket on which nobody else listens. Raises OSError that names the flag to change."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family)
    except OverflowError as error:
        raise OSError(f"--port {port}: a port is a number from 0 to 65535") from error
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            problem = f"--port {port}: another program listens there; give another, such as --port {port + 1}"
        elif error.errno == errno.EACCES:
            problem = f"--port {port}: ports below 1024 are kept for the system; give another, such as --port 8008"
        else:
            problem = (
                f"--host {host}: no address of this machine ({error.strerror}); 127.0.0.1 is for this machine alone"
            )
        raise OSError(problem) from error


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


if __name__ == "__main__":
    from handface.jobs.cli import main_for

    sys.exit(main_for("demo-page"))
