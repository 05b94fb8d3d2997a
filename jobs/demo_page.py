"""A small local web page to try the network: drop a photo, see overlay and contact map, turn the meshes round in 3D.

Everything stays on this machine and in memory. The page answers on the loopback address unless --host says otherwise; it has no
login, so give it another address only on a network you trust.
"""

from __future__ import annotations

import ipaddress
import logging
import sys
from dataclasses import dataclass, field

from handface.jobs.page.server import PageConfig
from handface.predict.build import PredictorOptions, build_predictor

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Config(PredictorOptions):
    """Which network, where the page is served, and its limits."""

    host: str = "127.0.0.1"
    """Address to listen on."""
    port: int = 8008
    """Port to listen on."""
    allow_host: tuple[str, ...] = ()
    """Further host names under which the page may be opened."""
    open: bool = False
    """Open the page in the browser."""
    page: PageConfig = field(default_factory=PageConfig)
    """Limits on uploads and on what is held."""


def run(config: Config) -> int:
    """Serve until interrupted. Returns 0. Raises OSError if the port is taken, and what a wrong model raises."""
    from aiohttp import web

    from handface.jobs.page.server import make_app
    from handface.jobs.predict import untrained_notice

    predictor = build_predictor(config)
    if not predictor.trained:
        untrained_notice(config.model)
    if not _is_loopback(config.host):
        log.warning("%s can be reached from other machines: everyone who can may send photos", config.host)
    app = make_app(
        predictor.predict, config.model, predictor.trained, config.page, (config.host, *config.allow_host), warm_up=True
    )
    url = f"http://{f'[{config.host}]' if ':' in config.host else config.host}:{config.port}/"

    async def say_where(app: web.Application) -> None:
        print(f"open {url}   (Ctrl-C ends it)", flush=True)
        if config.open:
            import webbrowser

            webbrowser.open(url)

    app.on_startup.append(say_where)
    web.run_app(app, host=config.host, port=config.port, print=None, access_log=None)
    return 0


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


if __name__ == "__main__":
    from handface.jobs.cli import main_for

    sys.exit(main_for("demo-page"))
