"""The demo page on a free port, before a network that knows the answers."""

from __future__ import annotations

import asyncio
import http.client
import io
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from aiohttp import web
from PIL import Image

from handface.jobs.page.server import PageConfig, make_app
from handface.model.prediction.prediction import Prediction
from tests.model.outputs.synthetic import picture, prediction

SIZE = 320
TALL = 400  # rows of the picture with two people


def png(image: np.ndarray) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(image).save(stream, "PNG")
    return stream.getvalue()


def two_people_picture() -> np.ndarray:
    return np.pad(picture(0, SIZE), ((0, TALL - SIZE), (0, 0), (0, 0)))


@dataclass
class Known:
    """Knows the answer for two synthetic scenes, tells them by size and brightness; dark pictures have nobody, black ones fail."""

    trained: bool = False
    calls: int = 0
    gate: threading.Event = field(default_factory=threading.Event)
    together: int = 0
    most_together: int = 0

    def __post_init__(self) -> None:
        self.gate.set()

    def __call__(self, image: np.ndarray) -> Prediction:
        self.calls += 1
        self.together += 1
        self.most_together = max(self.most_together, self.together)
        self.gate.wait(30)
        self.together -= 1
        height, width = image.shape[:2]
        if image.mean() < 1:
            raise RuntimeError("a detector that breaks")
        if (width, height) == (SIZE, TALL):
            both = (prediction(0, SIZE).persons[0], prediction(3, SIZE).persons[0])
            return Prediction(both, width, height, self.trained)
        if (width, height) != (SIZE, SIZE):
            return Prediction((), width, height, self.trained, "a face, but no hand")
        number = min((0, 3), key=lambda n: float(np.abs(image.astype(int) - picture(n, SIZE)).mean()))
        return replace(prediction(number, SIZE), trained=self.trained)


@contextmanager
def serving(
    predict: Callable[[np.ndarray], Prediction], trained: bool = False, warm_up: bool = False, **limits: Any
) -> Iterator[int]:
    """The page on a free loopback port."""
    ready, ended = threading.Event(), asyncio.Event()
    where: dict[str, Any] = {}

    async def serve() -> None:
        app = make_app(predict, "dice-test", trained, PageConfig(**limits), ("named.example",), warm_up)
        runner = web.AppRunner(app)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        where.update(port=runner.addresses[0][1], loop=asyncio.get_running_loop())
        ready.set()
        await ended.wait()
        await runner.cleanup()

    thread = threading.Thread(target=lambda: asyncio.run(serve()), daemon=True)
    thread.start()
    assert ready.wait(20)
    try:
        yield where["port"]
    finally:
        where["loop"].call_soon_threadsafe(ended.set)
        thread.join(20)


def ask(
    port: int, path: str, data: bytes | None = None, headers: dict[str, str] | None = None
) -> tuple[int, dict[str, str], bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    connection.request("GET" if data is None else "POST", path, data, headers or {})
    response = connection.getresponse()
    return response.status, dict(response.getheaders()), response.read()


def upload(port: int, data: bytes, **headers: str) -> tuple[int, dict[str, Any]]:
    status, _, body = ask(port, "/api/predict", data, headers)
    return status, json.loads(body)
