"""Memory of a crawl: its worker with large originals at default settings, and the ledger of asked URLs beside sets in memory.

    python -m benchmarks.pipeline.crawl_scale --save

Pictures of 6 MB come from a server on loopback; one unit of the default 512 URLs, each host with the default limits. The ledger
answers which of as many new URLs were not asked yet, and who has the last word, over four rounds.
"""

from __future__ import annotations

import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from multiprocessing import Process, Queue
from pathlib import Path

import numpy as np

from benchmarks.pipeline.crawl import _serve
from benchmarks.results import Figure, report

LEDGER = """
import random, resource, sys, time
from handface.pipeline.crawl.ledger import Ledger
way, count = sys.argv[1], int(sys.argv[2])
rng = random.Random(0)
def batches():
    for number in range(4):
        for start in range(0, count // 4, 512):
            yield number, [f"{rng.getrandbits(64):016x}" for _ in range(min(512, count // 4 - start))]
made = time.process_time()
for _ in batches():
    pass
made = time.process_time() - made
rng = random.Random(0)
before, base = time.process_time(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
if way == "ledger":
    with Ledger() as ledger:
        for number, ids in batches():
            ledger.add(number, ids)
        fresh, last = ledger.unasked(3).sum(), sum(one.sum() for one in ledger.last_words().values())
else:
    seen, said, fresh, rounds = set(), set(), 0, {}
    for number, ids in batches():
        fresh += sum(int(i, 16) not in seen for i in ids) if number == 3 else 0
        seen.update(int(i, 16) for i in ids)
        rounds.setdefault(number, []).extend(ids)
    last = 0
    for number in (3, 2, 1, 0):
        copies, here = {}, []
        for i in rounds.pop(number):
            copies[i] = copies.get(i, 0) + 1
            here.append((i, copies[i]))
            last += (i, copies[i]) not in said
        said.update(here)
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(fresh, last, time.process_time() - before - made, (peak - base) / 1024)
"""


@dataclass(frozen=True)
class Config:
    """What to measure."""

    images: int = 512
    """Pictures of the crawl."""
    urls: int = 1_000_000
    """URLs in the ledger."""
    save: bool = False
    """Write the figures to docs/results/crawl_scale.csv and its page."""


def main(config: Config) -> int:
    """Measure, print, and write if asked. Returns 0."""
    figures = [*_crawl(config.images), *_ledger(config.urls)]
    report("crawl_scale", figures, config.save)
    return 0


def large_pictures(count: int) -> list[bytes]:
    """JPEGs of noise, 6 MB each."""
    import simplejpeg

    made = []
    for seed in range(count):
        noise = np.random.default_rng(seed).integers(0, 256, (1500, 1800, 3), np.uint8)
        made.append(simplejpeg.encode_jpeg(noise, 95, colorspace="RGB", colorsubsampling="444"))
    return made


def _crawl(images: int) -> list[Figure]:
    pictures = large_pictures(2)
    size = sum(map(len, pictures)) / len(pictures) / 1e6
    queue: Queue[int] = Queue()
    server = Process(target=_serve, args=(pictures, 8, queue), daemon=True)
    server.start()
    port = queue.get(timeout=60)
    try:
        with tempfile.TemporaryDirectory(prefix="bench-crawl-") as folder:
            listing, hosts = Path(folder) / "urls.txt", [f"h{i}.bench.test" for i in range(64)]
            listing.write_text("".join(f"http://{hosts[i % 64]}:{port}/{i}.jpg\n" for i in range(images)))
            fixed = [word for i, name in enumerate(hosts) for word in (name, f"127.0.0.{1 + i % 8}")]
            command = [
                *(sys.executable, "-m", "handface.jobs.crawl", "--local", "--input", str(listing)),
                *("--output", f"{folder}/out", "--contact", "bench@example.org"),
                *("--http.open-ranges", "127.0.0.0/8", "--http.host-interval", "0", "--http.resolve", *fixed),
            ]
            start = time.perf_counter()
            subprocess.run(command, check=True, capture_output=True)
            seconds = time.perf_counter() - start
            kept = sum(path.stat().st_size for path in Path(folder, "out", "round-00").glob("*.tar")) / 1e6
    finally:
        server.terminate()
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    row = f"worker | {images} pictures of {size:.1f} MB, bodies in pieces"
    return [
        Figure(f"{row} | kept", f"{kept:.0f}", "MB"),
        Figure(f"{row} | peak memory", f"{peak:.0f}", "MB"),
        Figure(f"{row} | wall", f"{seconds:.0f}", "s"),
    ]


def _ledger(urls: int) -> list[Figure]:
    figures, answers = [], set()
    for way in ("sets", "ledger"):
        done = subprocess.run(
            [sys.executable, "-c", LEDGER, way, str(urls)], check=True, capture_output=True, text=True
        ).stdout.split()
        answers.add((done[0], done[1]))
        row = f"ledger | {way}, {urls:,} URLs".replace(",0", " 0")
        figures += [
            Figure(f"{row} | CPU", f"{float(done[2]):.1f}", "s"),
            Figure(f"{row} | memory", f"{float(done[3]):.0f}", "MB"),
        ]
    if len(answers) != 1:
        raise RuntimeError(f"the two ways differ: {answers}")
    return figures


if __name__ == "__main__":
    import tyro

    sys.exit(main(tyro.cli(Config)))
