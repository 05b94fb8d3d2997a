"""The page's server: static files, uploads one after another, answers from memory; for this machine alone unless told otherwise."""

from __future__ import annotations

import asyncio
import ipaddress
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib.resources import files
from typing import Any
from urllib.parse import urlsplit

from aiohttp import web

from handface.jobs.page.answers import EXAMPLES, BadPhotoError, Predict, Store, answer
from handface.pipeline.contract.config import Count

log = logging.getLogger(__name__)
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
_STATIC = {
    "/": ("index.html", "text/html"),
    "/style.css": ("style.css", "text/css"),
    "/app.js": ("app.js", "text/javascript"),
    "/camera.js": ("camera.js", "text/javascript"),
    "/viewer.js": ("viewer.js", "text/javascript"),
    "/favicon.svg": ("favicon.svg", "image/svg+xml"),
    **{f"/{name}": (name, "image/jpeg") for name in EXAMPLES},
}
_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self';"
    " base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}


@dataclass(frozen=True)
class PageConfig:
    """Limits of the page."""

    max_bytes: Count = 25_000_000
    """Larger uploads are refused."""
    max_pixels: Count = 50_000_000
    """Photos of more pixels are refused before they are decoded."""
    queue: Count = 4
    """Photos in work and waiting; more are told to come back."""
    upload_seconds: float = 60.0
    """An upload that takes longer is given up."""
    kept: int = 24
    """Answers held in memory."""
    kept_bytes: int = 128_000_000
    """Bytes of answers held in memory."""


def make_app(
    predict: Predict,
    model: str,
    trained: bool,
    config: PageConfig = PageConfig(),
    hosts: tuple[str, ...] = (),
    warm_up: bool = False,
) -> web.Application:
    """The page around a predictor, which is called in one thread, for one photo at a time.

    model: its name, for people.  trained: False puts the warning on the page before anything is predicted.
    hosts: names besides localhost and addresses under which the page may be opened.  warm_up: predict an example at the start, so that
    the first photo does not wait for networks to be loaded.
    """
    service = _Service(predict, model, trained, config, warm_up)
    app = web.Application(client_max_size=config.max_bytes, middlewares=[_guard({"localhost", *hosts})])
    app.on_response_prepare.append(_add_headers)
    app.cleanup_ctx.append(service.life)
    for route, (name, media) in _STATIC.items():
        app.router.add_get(route, _static(name, media))
    app.router.add_get("/api/info", service.info)
    app.router.add_post("/api/predict", service.predict)
    app.router.add_get("/api/results/{name}/{file}", service.file)
    return app


class _Service:
    """The three things the page asks for."""

    def __init__(self, predict: Predict, model: str, trained: bool, config: PageConfig, warm_up: bool) -> None:
        self._predict, self._model, self._trained, self._config = predict, model, trained, config
        self._warm_up = warm_up
        self._store = Store(config.kept, config.kept_bytes)
        self._waiting = 0
        self._thread: ThreadPoolExecutor | None = None

    async def life(self, app: web.Application) -> AsyncIterator[None]:
        """The thread that predicts; when the page ends, what waits is dropped."""
        self._thread = ThreadPoolExecutor(1, "predict")
        if self._warm_up:
            self._thread.submit(self._warm)
        yield
        self._thread.shutdown(wait=False, cancel_futures=True)

    def _warm(self) -> None:
        """Predict an example; a detector that cannot be loaded is told of here, and again with the first photo."""
        try:
            answer((files("handface.jobs.page") / EXAMPLES[0]).read_bytes(), self._predict, self._config.max_pixels)
        except Exception as error:
            log.warning("the first prediction failed: %s", " ".join(str(error).split()))

    async def info(self, request: web.Request) -> web.Response:
        """Name and state of the network, and the limits."""
        limits = {"max_bytes": self._config.max_bytes, "max_pixels": self._config.max_pixels}
        return web.json_response({"model": self._model, "trained": self._trained, **limits})

    async def predict(self, request: web.Request) -> web.Response:
        """A photo's bytes -> {name, trained, persons, ...}, or {error} with 4xx or 5xx."""
        if self._waiting >= self._config.queue:
            return _error(503, "Too many photos are waiting; try again in a moment.")
        self._waiting += 1  # before the upload is read: what waits holds memory
        try:
            data = await asyncio.wait_for(request.read(), self._config.upload_seconds)
            found = await asyncio.get_running_loop().run_in_executor(
                self._thread, answer, data, self._predict, self._config.max_pixels
            )
        except web.HTTPRequestEntityTooLarge:
            return _error(413, f"The file is larger than {self._config.max_bytes / 1e6:.0f} MB.")
        except TimeoutError:
            return _error(408, "The upload took too long.")
        except BadPhotoError as bad:
            return _error(422, str(bad))
        except Exception:
            log.exception("a photo could not be predicted")
            return _error(500, "The prediction failed on this photo; the terminal says why.")
        finally:
            self._waiting -= 1
        return web.json_response({"name": self._store.add(found), **found.summary})

    async def file(self, request: web.Request) -> web.Response:
        """A picture, mesh or record of an answer that is still held."""
        name, file = request.match_info["name"], request.match_info["file"]
        # some files are made when they are asked for
        found = await asyncio.to_thread(self._store.file, name, file)
        if found is None:
            return _error(404, "This result is no longer held; upload the photo again.")
        return web.Response(body=found[1], content_type=found[0])


def _guard(hosts: set[str]) -> Any:
    """Answers only to known names (DNS rebinding), and to posts only from the page itself; errors of routing are JSON too."""

    @web.middleware
    async def guard(request: web.Request, handler: Handler) -> web.StreamResponse:
        host = request.headers.get("Host", "")
        if not _is_allowed(host, hosts):
            return _error(421, "This page does not answer to that host name; see --allow-host.")
        origin = request.headers.get("Origin")
        if request.method == "POST" and origin is not None and urlsplit(origin).netloc.lower() != host.lower():
            return _error(403, "Only the page itself may send photos.")
        try:
            return await handler(request)
        except web.HTTPException as error:
            return _error(error.status, error.reason)

    return guard


def _is_allowed(host: str, hosts: set[str]) -> bool:
    """Addresses cannot be rebound; names must be known."""
    try:
        name = urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return False
    if name in {known.lower() for known in hosts}:
        return True
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _static(name: str, media: str) -> Handler:
    data = (files("handface.jobs.page") / name).read_bytes()
    charset = "utf-8" if media.startswith("text/") else None

    async def serve(request: web.Request) -> web.Response:
        return web.Response(body=data, content_type=media, charset=charset)

    return serve


async def _add_headers(request: web.Request, response: web.StreamResponse) -> None:
    response.headers.update(_HEADERS)


def _error(status: int, message: str) -> web.Response:
    headers = {"Retry-After": "5"} if status == 503 else {}
    return web.json_response({"error": message}, status=status, headers=headers)
