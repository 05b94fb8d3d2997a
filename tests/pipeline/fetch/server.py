"""A local server that behaves, and misbehaves on request; it notes who asked for what and how many at once."""

from __future__ import annotations

import asyncio
import gzip
import threading
import time
import zlib
from collections import Counter, defaultdict

from aiohttp import web

from tests.pipeline.images import encode, photo, png_header

IMAGE = encode(photo())
ROBOTS = b"User-agent: *\nDisallow: /private/\n"
AI = b"User-Agent: *\nDisallow: /art/\nAllow: /\n"
TDM = b'[{"location": "/reserved/*", "tdm-reservation": 1}, {"location": "/", "tdm-reservation": 0}]'
_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: image/jpeg\r\n"


class Server:
    """Runs in a thread on several loopback addresses and one port. `files` overrides paths: (host, path) -> answer."""

    def __init__(self, addresses: tuple[str, ...] = ("127.0.0.1",)) -> None:
        self.addresses = addresses
        self.asked: list[tuple[float, str, str]] = []  # time, host, path
        self.agents: set[str] = set()
        self.most: Counter[str] = Counter()  # host -> requests at once
        self.files: dict[tuple[str, str], list[tuple[int, dict[str, str], bytes]]] = defaultdict(list)
        self.delay = 0.0
        self._now: Counter[str] = Counter()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()), daemon=True)

    def __enter__(self) -> Server:
        self._thread.start()
        assert self._ready.wait(20)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(10)

    def url(self, path: str, host: str = "127.0.0.1") -> str:
        return f"http://{host}:{self.port}{path}"

    def paths(self, host: str = "127.0.0.1") -> list[str]:
        return [path for _, asked, path in self.asked if asked == host]

    async def _serve(self) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self._answer)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await runner.setup()
        self.port = 0
        for address in self.addresses:
            site = web.TCPSite(runner, address, self.port)
            await site.start()
            self.port = site._server.sockets[0].getsockname()[1]
        self._ready.set()
        await self._stop.wait()
        await runner.cleanup()

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        host, path = request.host.rpartition(":")[0], request.path
        self.asked.append((time.monotonic(), host, path))
        self.agents.add(request.headers.get("User-Agent", ""))
        self._now[host] += 1
        self.most[host] = max(self.most[host], self._now[host])
        try:
            await asyncio.sleep(self.delay)
            return await self._body(request, host, path)
        finally:
            self._now[host] -= 1

    async def _body(self, request: web.Request, host: str, path: str) -> web.StreamResponse:
        if planned := self.files.get((host, path)):
            status, headers, body = planned.pop(0) if len(planned) > 1 else planned[0]
            return web.Response(status=status, headers=headers, body=body)
        known = {"/robots.txt": ROBOTS, "/ai.txt": AI, "/.well-known/tdmrep.json": TDM}
        if path in known:
            return web.Response(body=known[path], content_type="text/plain")
        name = path.strip("/").split("/")[0]
        if name.isdigit():
            return web.Response(status=int(name))
        if name.startswith("redirect"):
            return self._redirect(name, path)
        if name in _RAW:
            return await self._raw(request, name)
        status, headers, body = _PLAIN.get(name, (200, {}, IMAGE))
        return web.Response(status=status, headers=headers, body=body)

    def _redirect(self, name: str, path: str) -> web.Response:
        number = path.rpartition("/")[2]
        location = {
            "redirect-loopback": "http://127.9.9.9/",
            "redirect-metadata": "http://169.254.169.254/latest/",
            "redirect-file": "file:///etc/passwd",
            "redirect-decimal": "http://2130706433/",
            "redirect-userinfo": "http://good.example.com@10.0.0.1/",
            "redirect-loop": "/redirect-loop",
            "redirect-circle": "/redirect-circle2",
            "redirect-circle2": "/redirect-circle",
            "redirect-long": f"/redirect-long/{int(number) + 1 if number.isdigit() else 0}",
            "redirect-nowhere": "",
            "redirect-here": "/a.jpg",
            "redirect-there": f"http://b.test:{self.port}/a.jpg",
        }[name]
        return web.Response(status=302, headers={"Location": location} if location else {})

    async def _raw(self, request: web.Request, name: str) -> web.StreamResponse:
        """Write bytes below HTTP, then hang up."""
        transport = request.transport
        assert transport is not None
        for piece, pause in _RAW[name]():
            if transport.is_closing():
                break
            transport.write(piece)
            await asyncio.sleep(pause)
        transport.close()
        return web.Response()


def _endless():
    yield _HEAD + b"\r\n" + IMAGE, 0.0
    for _ in range(10_000):
        yield bytes(1 << 16), 0.0


def _loris():
    yield _HEAD + b"Content-Length: 100000\r\n\r\n" + IMAGE[:100], 0.0
    for _ in range(100):
        yield b"x", 0.1


_RAW = {
    "endless": _endless,
    "slow-loris": _loris,
    "silent": lambda: [(b"", 5.0)],
    "truncated": lambda: [(_HEAD + b"Content-Length: 100000\r\n\r\n" + IMAGE[:1000], 0.0)],
    "reset": lambda: [(b"", 0.0)],
    "garbage": lambda: [(b"\x16\x03\x01 not http\r\n\r\n", 0.0)],
    "long-header": lambda: [(_HEAD + b"X-Long: " + b"a" * 65536 + b"\r\n\r\n", 0.0)],
    "many-headers": lambda: [(_HEAD + b"".join(b"X-%d: a\r\n" % i for i in range(1000)) + b"\r\n", 0.0)],
    "chunked-lie": lambda: [(_HEAD + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n" + IMAGE, 0.0)],
    "announced": lambda: [(_HEAD + b"Content-Length: 1000000000\r\n\r\n", 0.3)],
    "gzip-cut": lambda: [
        (_HEAD + b"Content-Encoding: gzip\r\nConnection: close\r\n\r\n" + gzip.compress(IMAGE)[:-40], 0.0)
    ],
}
_XMP = b"\xff\xe1\x00\x6ehttp://ns.adobe.com/xap/1.0/\x00<plus:DataMining>DMI-PROHIBITED-AIMLTRAINING</plus:DataMining>"
_XMP = _XMP[:2] + (len(_XMP) - 2).to_bytes(2) + _XMP[4:]
_PLAIN: dict[str, tuple[int, dict[str, str], bytes]] = {
    "gzip-bomb": (200, {"Content-Encoding": "gzip"}, gzip.compress(IMAGE[:64] + bytes(20 << 20))),
    "deflate-bomb": (200, {"Content-Encoding": "deflate"}, zlib.compress(IMAGE[:64] + bytes(20 << 20))),
    "gzip-broken": (200, {"Content-Encoding": "gzip"}, IMAGE),
    "gzip-good": (200, {"Content-Encoding": "gzip"}, gzip.compress(IMAGE)),
    "deflate-raw": (200, {"Content-Encoding": "deflate"}, zlib.compress(IMAGE)[2:-4]),
    "encoding": (200, {"Content-Encoding": "br"}, IMAGE),
    "html-as-jpeg": (200, {"Content-Type": "image/jpeg"}, b"<!doctype html><html><script>alert(1)</script></html>" * 9),
    "script-as-png": (200, {"Content-Type": "image/png"}, b"\x7fELF" + bytes(200)),
    "svg": (200, {"Content-Type": "image/svg+xml"}, b"<svg xmlns='http://www.w3.org/2000/svg'></svg>"),
    "empty": (200, {}, b""),
    "pixel-bomb": (200, {}, png_header(30000, 30000)),
    "tiny": (200, {}, encode(photo(1, 1), "PNG")),
    "cut-jpeg": (200, {}, IMAGE[:-1000]),
    "noai": (200, {"X-Robots-Tag": "noai"}, IMAGE),
    "noimageai": (200, {"X-Robots-Tag": "noindex, noimageai"}, IMAGE),
    "noml": (200, {"X-Robots-Tag": "noml"}, IMAGE),
    "agent-noai": (200, {"X-Robots-Tag": "handface: noimageindex"}, IMAGE),
    "other-noai": (200, {"X-Robots-Tag": "otherbot: noai, noindex"}, IMAGE),
    "tdm-header": (200, {"TDM-Reservation": "1"}, IMAGE),
    "plus": (200, {}, IMAGE[:2] + _XMP + IMAGE[2:]),
}
