"""Images per CPU-second of `handface crawl` and of img2dataset, side by side: the same server, pictures, resizing and encoding.

    python -m benchmarks.pipeline.crawl --peer /path/to/its/venv/bin/img2dataset --save

The server (its own process, its CPU not counted) holds N JPEGs on several loopback addresses under 200 host names. robots.txt and
every check of ours are on. img2dataset cannot be told addresses of made-up names, so it asks the same pictures by address. Both
run with the same malloc thresholds (glibc gives large buffers back to the system and faults them in again otherwise).
"""

from __future__ import annotations

import asyncio
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from dataclasses import dataclass
from multiprocessing import Process, Queue
from pathlib import Path

from benchmarks.results import report, tabulate

MALLOC = {"MALLOC_MMAP_THRESHOLD_": str(256 << 20), "MALLOC_TRIM_THRESHOLD_": str(256 << 20)}
ROBOTS = b"User-agent: *\nDisallow: /private/\n"


@dataclass(frozen=True)
class Config:
    """What to measure."""

    images: int = 10_000
    """Pictures asked for."""
    hosts: int = 200
    """Host names they are spread over; keep some 50 pictures per host, since each host's permission files are asked for."""
    repeats: int = 1
    """Runs of each kind, sides in turn; the least CPU time of each counts (others' load on the machine only adds)."""
    addresses: int = 8
    """Loopback addresses the server listens on."""
    peer: Path | None = None
    """The `img2dataset` command of an environment of its own; without it only our side runs."""
    save: bool = False
    """Write the figures to docs/results/crawl.csv and its page."""


@dataclass(frozen=True)
class Measured:
    """One run: wall and CPU seconds (children included), pictures kept."""

    wall: float
    cpu: float
    kept: int


def main(config: Config) -> int:
    """Measure both modes of both sides, smallest run first to know what starting costs. Returns 0."""
    pictures = _pictures(64)
    queue: Queue[int] = Queue()
    server = Process(target=_serve, args=(pictures, config.addresses, queue), daemon=True)
    server.start()
    port = queue.get(timeout=60)
    table, ratios = {}, []
    small = max(10, config.images // 100)
    sides = ("handface", "img2dataset") if config.peer else ("handface",)
    try:
        for mode in ("reencode", "bytes"):
            costs = {}
            runs: dict[tuple[str, int], list[Measured]] = defaultdict(list)
            for _ in range(config.repeats):
                for side in sides:
                    for count in (small, config.images):
                        runs[side, count].append(_run(side, mode, count, config, port))
            for side in sides:
                few, all_ = (min(runs[side, count], key=lambda run: run.cpu) for count in (small, config.images))
                costs[side] = net = (all_.cpu - few.cpu) / max(all_.kept - few.kept, 1)
                start = few.cpu - few.kept * net
                table[f"{mode}, {side}"] = {
                    "kept": str(all_.kept),
                    "wall s": f"{all_.wall:.1f}",
                    "CPU s": f"{all_.cpu:.1f}",
                    "of these start-up": f"{start:.1f}",
                    "CPU ms/image": f"{1000 * all_.cpu / max(all_.kept, 1):.2f}",
                    "without start-up": f"{1000 * net:.2f}",
                }
            if len(costs) == 2:
                ratios.append(
                    f"{mode}: {costs['img2dataset'] / costs['handface']:.2f}x img2dataset's images per CPU-second"
                )
    finally:
        server.terminate()
    report("crawl", tabulate("mode", table), config.save)
    mean = sum(map(len, pictures)) / len(pictures) / 1000
    print(f"pictures of {mean:.0f} kB on average, {os.cpu_count()} CPUs", *ratios, sep="\n")
    print(f"decoding, resizing and encoding one picture in `reencode`, on our side: {_floor(pictures):.2f} ms of CPU")
    return 0


def _run(side: str, mode: str, count: int, config: Config, port: int) -> Measured:
    with tempfile.TemporaryDirectory(prefix="bench-crawl-") as folder:
        out = Path(folder) / "out"
        command = (
            _ours(mode, count, config, port, Path(folder), out)
            if side == "handface"
            else _theirs(mode, count, config, port, Path(folder), out)
        )
        before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
        environment = os.environ | MALLOC | {"OMP_NUM_THREADS": "1", "NO_ALBUMENTATIONS_UPDATE": "1"}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        wall, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
        if done.returncode:
            raise RuntimeError(f"{side} {mode}: {done.stdout[-2000:]}{done.stderr[-2000:]}")
        kept = _count(out)
    return Measured(wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, kept)


def _ours(mode: str, count: int, config: Config, port: int, folder: Path, out: Path) -> list[str]:
    hosts = max(1, config.hosts * count // config.images)  # as many pictures per host in the small run
    names = [f"h{i}.bench.test" for i in range(hosts)]
    listing = folder / "urls.txt"
    listing.write_text("".join(f"http://{names[i % hosts]}:{port}/{i}.jpg\n" for i in range(count)))
    fixed = [word for i, name in enumerate(names) for word in (name, f"127.0.0.{1 + i % config.addresses}")]
    return [
        *(sys.executable, "-m", "handface.jobs.crawl", "--local", "--input", str(listing)),
        *("--output", str(out), "--contact", "bench@example.org", "--keep.mode", mode, "--keep.max-side", "512"),
        *("--http.open-ranges", "127.0.0.0/8", "--http.host-interval", "0", "--http.host-concurrency", "8"),
        *("--http.resolve", *fixed),
    ]  # fmt: skip


def _theirs(mode: str, count: int, config: Config, port: int, folder: Path, out: Path) -> list[str]:
    listing = folder / "urls.txt"
    listing.write_text("".join(f"http://127.0.0.{1 + i % config.addresses}:{port}/{i}.jpg\n" for i in range(count)))
    how = [
        "--resize_mode=keep_ratio_largest",
        "--image_size=512",
        "--resize_only_if_bigger=True",
        "--skip_reencode=False",
    ]
    if mode == "bytes":
        how = ["--resize_mode=no", "--skip_reencode=True"]
    return [
        *(str(config.peer), f"--url_list={listing}", f"--output_folder={out}", "--processes_count=1", "--thread_count=32"),
        *("--output_format=webdataset", "--number_sample_per_shard=1000", "--encode_quality=95", *how),
    ]  # fmt: skip


def _count(out: Path) -> int:
    import tarfile

    return sum(name.endswith(".jpg") for tar in out.rglob("*.tar") for name in tarfile.open(tar).getnames())


def _pictures(count: int) -> list[bytes]:
    """640x480 JPEGs of about 55 kB: smooth shapes with grain."""
    import cv2
    import numpy as np
    import simplejpeg

    found = []
    for seed in range(count):
        rng = np.random.default_rng(seed)
        coarse = cv2.resize(rng.integers(0, 256, (6, 8, 3), np.uint8), (640, 480), interpolation=cv2.INTER_CUBIC)
        grain = rng.normal(0, 7, (480, 640, 3))
        image = np.clip(coarse + grain, 0, 255).astype(np.uint8)
        found.append(simplejpeg.encode_jpeg(np.ascontiguousarray(image), 75, colorsubsampling="420"))
    return found


def _serve(pictures: list[bytes], addresses: int, queue: Queue[int]) -> None:
    asyncio.run(_answer(pictures, addresses, queue))


async def _answer(pictures: list[bytes], addresses: int, queue: Queue[int]) -> None:
    """A protocol of its own: a request costs it some 30 microseconds, so that it is not what is measured."""
    loop, port = asyncio.get_running_loop(), 0
    for i in range(addresses):
        listening = await loop.create_server(lambda: _Protocol(pictures), f"127.0.0.{1 + i}", port, backlog=1024)
        port = listening.sockets[0].getsockname()[1]
    queue.put(port)
    await asyncio.Event().wait()


class _Protocol(asyncio.Protocol):
    """Just enough HTTP/1.1: keep-alive, GET."""

    def __init__(self, pictures: list[bytes]) -> None:
        self.pictures, self.left = pictures, b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.left += data
        while (end := self.left.find(b"\r\n\r\n")) >= 0:
            path = self.left[:200].split(b" ", 2)[1]
            self.left = self.left[end + 4 :]
            if path == b"/robots.txt":
                head, body = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n", ROBOTS
            elif path.endswith(b".jpg"):
                number = path[1:-4]
                plain = self.pictures[int(number) % len(self.pictures)]
                head, body = b"HTTP/1.1 200 OK\r\nContent-Type: image/jpeg\r\n", _own(plain, int(number))
            else:
                head, body = b"HTTP/1.1 404 Not Found\r\n", b""
            self.transport.write(head + b"Content-Length: %d\r\n\r\n" % len(body) + body)


def _own(plain: bytes, number: int) -> bytes:
    """The picture with its number in the quantisers of its low frequencies: other bytes, and other pixels, for each."""
    table = plain.index(b"\xff\xdb") + 5
    quantisers = bytearray(plain[table : table + 64])
    for bit in range(20):
        quantisers[1 + bit] = min(255, quantisers[1 + bit] + (number >> bit & 1))
    return plain[:table] + bytes(quantisers) + plain[table + 64 :]


def _floor(pictures: list[bytes]) -> float:
    """CPU milliseconds per picture of the re-encoding alone, in a process that has done some."""
    from handface.pipeline.engine.worker import tune_process
    from handface.pipeline.fetch.original import KeepConfig, make_original

    tune_process()
    config, spent = KeepConfig(mode="reencode", max_side=512), []
    for _ in range(5):
        start = time.process_time()
        for picture in pictures:
            make_original(picture, config)
        spent.append((time.process_time() - start) / len(pictures))
    return 1000 * min(spent)


if __name__ == "__main__":
    import tyro

    sys.exit(main(tyro.cli(Config)))
