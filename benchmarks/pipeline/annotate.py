"""Throughput of `handface annotate` on Ray against a plain serial loop over the same models, pipeline overhead, memory.

    python -m benchmarks.pipeline.annotate [--input DIR] [--save]

All in one run on the same pictures, so that ratios mean something: (1) a serial loop that calls the networks and nothing else
of the pipeline; (2) `--local`, the whole pipeline in one process; (3) Ray with `--workers` workers, while the resident memory
of driver and workers is sampled. Pictures are variants (crop, scale, light, mirror; seeded) of those in --input, or of the
portraits that installed packages carry.
"""

from __future__ import annotations

import json
import os
import tempfile
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = "1"  # before numpy and torch: one thread per model instance, as in the workers
os.environ.setdefault("RAY_worker_niceness", "0")  # Ray's workers are nice by default, the serial loop is not

import cv2
import numpy as np
import tyro
from rich.progress import track

from benchmarks.results import Figure, report, tabulate
from handface.pipeline.annotators.analyser import DetectorError
from handface.pipeline.contract.inputs import SourceItem
from handface.pipeline.contract.parts import read_parts
from handface.pipeline.engine.executor import execute
from handface.pipeline.engine.run import prepare
from handface.pipeline.engine.worker import tune_process
from handface.pipeline.sources import open_source
from handface.pipeline.stages.depth import load_annotators
from handface.pipeline.stages.detect import build_analyser, resolved
from handface.pipeline.stages.filters.dedupe import DedupeConfig
from handface.pipeline.stages.recipe import AnnotateConfig, build_stages

MB = 1 << 20


@dataclass(frozen=True)
class Config:
    input: Path | None = None
    """Folder of photos to make the pictures from; default: portraits carried by packages."""
    images: int = 400
    """Pictures for the three timed runs."""
    memory_inputs: int = 5000
    """Inputs of the memory run, the same pictures over and over; 0 leaves it out."""
    workers: int = 2
    unit_size: int = 32
    segmenter: bool = True
    """Use the skin segmenter (model selfie-multiclass in the model store)."""
    save: bool = False
    """Write the figures to docs/results/annotate.csv and its page."""


@dataclass
class Serial:
    """What the plain loop measured: seconds in all, and inside the networks."""

    seconds: float = 0.0
    models: float = 0.0
    depth_maps: int = 0


@dataclass
class Memory:
    """Resident bytes of the driver and of all its Ray workers with their children, as inputs were finished."""

    samples: list[tuple[int, int, int]] = field(default_factory=list)  # inputs done, driver, workers

    def at(self, share: float) -> tuple[int, int, int]:
        """Inputs done by this share, and the largest sizes during the tenth before it: at the very end workers are leaving."""
        total = self.samples[-1][0]
        near = [sample for sample in self.samples if (share - 0.1) * total < sample[0] <= share * total]
        return near[-1][0], max(driver for _, driver, _ in near), max(workers for _, _, workers in near)


def main(config: Config) -> None:
    annotate = AnnotateConfig(unit_size=config.unit_size, dedupe=DedupeConfig(max_distance=-1))
    detect = resolved(annotate.detect) if config.segmenter else type(annotate.detect)(segmenter="off")
    annotate = type(annotate)(unit_size=config.unit_size, dedupe=annotate.dedupe, detect=detect)
    with tempfile.TemporaryDirectory(prefix="handface-benchmark-") as temp:
        folder = Path(temp)
        paths = make_pictures(config, folder / "pictures")
        serial = serial_loop(paths, annotate)
        local = engine_run(folder / "local", paths, annotate, workers=0)
        ray = engine_run(folder / "ray", paths, annotate, workers=config.workers)
        assert_same(folder / "local", folder / "ray")
        figures = throughput(config, serial, local, ray) + stage_times(folder / "local")
        if config.memory_inputs:
            many = [paths[i % len(paths)] for i in range(config.memory_inputs)]
            figures += memory_use(engine_run(folder / "memory", many, annotate, workers=config.workers).memory)
    report("annotate", figures, config.save)


def make_pictures(config: Config, folder: Path) -> list[Path]:
    """Seeded variants of the given photos, so that no two pictures cost the decoder and the networks the same."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    bases = base_pictures(config.input)
    paths = []
    for i in track(range(config.images), "pictures"):
        base = bases[i % len(bases)]
        height, width = base.shape[:2]
        share = rng.uniform(0.85, 1.0)
        h, w = int(height * share), int(width * share)
        y, x = rng.integers(0, height - h + 1), rng.integers(0, width - w + 1)
        variant = base[y : y + h, x : x + w].astype(np.float32) * rng.uniform(0.75, 1.2) + rng.uniform(-15, 15)
        if rng.random() < 0.5:
            variant = variant[:, ::-1]
        longest = int(rng.uniform(640, 1024))
        scale = longest / max(h, w)
        sized = cv2.resize(np.clip(variant, 0, 255).astype(np.uint8), None, fx=scale, fy=scale)
        paths.append(folder / f"{i:06d}.jpg")
        cv2.imwrite(str(paths[-1]), sized, [cv2.IMWRITE_JPEG_QUALITY, 90])
    return paths


def base_pictures(given: Path | None) -> list[np.ndarray]:
    """BGR uint8 photos: those of the folder, or the packaged portraits with and without a rendered hand."""
    if given is None:
        from handface.jobs.demonstration.pictures import demo_files

        blobs = [data for name, data in demo_files() if name.startswith(("plain", "touch", "far", "in_front"))]
    else:
        blobs = [path.read_bytes() for path in sorted(given.iterdir()) if path.is_file()]
    decoded = [cv2.imdecode(np.frombuffer(blob, np.uint8), cv2.IMREAD_COLOR) for blob in blobs if blob]
    pictures = [picture for picture in decoded if picture is not None and min(picture.shape[:2]) >= 200]
    if not pictures:
        raise ValueError(f"{given}: no photos there")
    return pictures


def serial_loop(paths: list[Path], annotate: AnnotateConfig) -> Serial:
    """One picture after the other through the same networks, in this process, nothing else: what a script would do."""
    from handface.model.prediction.view import crop_box, square
    from handface.pipeline.stages.contact_evidence import contact_evidence

    tune_process()
    analyser = build_analyser(annotate.detect)
    depth = load_annotators(annotate.depth)
    serial = Serial()
    analyser.analyse([np.zeros((256, 256, 3), np.uint8)])
    start = time.perf_counter()
    for path in track(paths, "serial loop"):
        image = cv2.imread(str(path))[:, :, ::-1].copy()
        entered = time.perf_counter()
        (answer,) = analyser.analyse([image])
        if isinstance(answer, DetectorError):
            continue
        found, skin = answer.found, answer.skin
        serial.models += time.perf_counter() - entered
        pairs = [(face, hand) for face in found.faces for hand in found.hands]
        if not pairs:
            continue
        scored = [(contact_evidence(face, hand, skin).score(annotate.contact), face, hand) for face, hand in pairs]
        score, face, hand = max(scored, key=lambda entry: entry[0])
        if score < annotate.contact.threshold:
            continue
        height, width = image.shape[:2]
        box = crop_box(face.box, hand.box, annotate.crop.margin, width, height)
        crop = square(image, box, min(annotate.crop.max_side, round(box[2] - box[0])), border=(0, 0, 0)).pixels
        entered = time.perf_counter()
        for annotator in depth:
            annotator.annotate([crop])
        serial.models += time.perf_counter() - entered
        serial.depth_maps += len(depth)
    serial.seconds = time.perf_counter() - start
    return serial


@dataclass
class EngineRun:
    """seconds: from the first call to the last result.  steady: inputs/s after every worker has finished one unit."""

    seconds: float
    steady: float
    kept: int
    memory: Memory


def engine_run(output: Path, paths: list[Path], annotate: AnnotateConfig, workers: int) -> EngineRun:
    """The pipeline over `paths`, in this process if workers is 0."""
    listing = output.with_suffix(".txt")
    listing.write_text("".join(f"{path}\n" for path in paths))

    def items() -> list[SourceItem]:
        return list(open_source([str(listing)], annotate.sources))

    start = time.perf_counter()
    run = prepare([str(listing)], annotate, str(output), list_inputs=items, stages=build_stages)
    done, kept = 0, 0
    memory = Memory()
    with Sampler() as sampler:
        results = execute(run, workers=workers, local=workers == 0)
        for result in track(results, f"{output.name}, {workers or 'no'} workers", total=len(run.pending)):
            if result.manifest is None:
                raise RuntimeError(f"unit {result.unit}: {result.error}\n{result.trace}")
            done += result.inputs
            kept += result.manifest.kept
            memory.samples.append((done, *sampler.latest))
    return EngineRun(time.perf_counter() - start, steady_rate(output, max(workers, 1)), kept, memory)


def steady_rate(output: Path, workers: int) -> float:
    """Inputs/s from the moment `workers` parts lay on the disk (results reach the driver a little later) to the last."""
    parts = sorted((Path(part.uri("json")).stat().st_mtime, part.manifest.inputs) for part in read_parts(str(output)))
    if len(parts) < 5 * workers:
        raise ValueError(f"{len(parts)} units are too few to measure {workers} workers; lower --unit-size")
    return sum(inputs for _, inputs in parts[workers:]) / (parts[-1][0] - parts[workers - 1][0])


class Sampler(threading.Thread):
    """Resident memory of this process and of its descendants that are workers or their children, twice a second."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.latest = (0, 0)
        self._end = threading.Event()

    def __enter__(self) -> Sampler:
        self.latest = resident()
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self.join()

    def run(self) -> None:
        while not self._end.wait(0.5):
            self.latest = resident()


def resident() -> tuple[int, int]:
    """Bytes resident: of this process, and of the Ray workers below it with their children."""
    parents, sizes, workers = {}, {}, set()
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            pid = int(entry.name)
            parents[pid] = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            sizes[pid] = int((entry / "statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
            if b"MapWorker" in (entry / "cmdline").read_bytes():
                workers.add(pid)
        except (OSError, IndexError):  # it ended while we looked
            continue

    def below(pid: int, roots: set[int]) -> bool:
        while pid in parents:
            if pid in roots:
                return True
            pid = parents[pid]
        return False

    mine = {pid for pid in workers if below(pid, {os.getpid()})}
    return sizes[os.getpid()], sum(size for pid, size in sizes.items() if below(pid, mine))


def assert_same(first: Path, second: Path) -> None:
    """The two runs must have written the same bytes, or their speed says nothing."""
    parts = [{path.name: path.read_bytes() for path in folder.glob("part-*.tar")} for folder in (first, second)]
    contents = [sorted(part.values()) for part in parts]
    if contents[0] != contents[1]:
        raise RuntimeError("Ray and --local wrote different samples")


def throughput(config: Config, serial: Serial, local: EngineRun, ray: EngineRun) -> list[Figure]:
    """Rates and the two claims."""
    n = config.images
    rate = n / serial.seconds
    rates = {
        "serial loop over the same models": rate,
        "`--local`, whole pipeline, one process": n / local.seconds,
        f"Ray, {config.workers} workers, with start-up": n / ray.seconds,
        f"Ray, {config.workers} workers, after the first units": ray.steady,
    }
    times = {
        "networks alone": {"ms an image": f"{serial.models / n * 1e3:.1f}"},
        "whole pipeline, one process, after its first unit": {"ms an image": f"{1e3 / local.steady:.1f}"},
    }
    print(
        f"{n} pictures, {ray.kept} kept, units of {config.unit_size}, {os.cpu_count()} CPUs, load {os.getloadavg()[0]:.1f} at the "
        f"end, {serial.depth_maps} depth maps; equal samples from Ray and --local. Overhead {n / local.steady / serial.models - 1:+.1%}."
    )
    table = {run: {"images/s": f"{one:.2f}", "against serial": f"{one / rate:.2f}"} for run, one in rates.items()}
    return [*tabulate("run", table), *tabulate("overhead", times)]


def stage_times(output: Path) -> list[Figure]:
    """Where the time of the one-process run went."""
    total: dict[str, float] = {}
    inputs = 0
    for path in sorted((output / "stats").glob("*.jsonl")):
        for line in path.read_text().splitlines():
            unit = json.loads(line)
            inputs += unit["inputs"]
            for stage, seconds in unit["seconds"].items():
                total[stage] = total.get(stage, 0.0) + seconds
    return tabulate(
        "stage", {stage: {"ms per input": f"{seconds / inputs * 1e3:.2f}"} for stage, seconds in total.items()}
    )


def memory_use(memory: Memory) -> list[Figure]:
    """Resident memory as inputs get done."""
    table = {}
    for share in (0.1, 0.25, 0.5, 0.75, 1.0):
        done, driver, workers = memory.at(share)
        table[f"{done} ({share:.0%})"] = {"driver MB": f"{driver / MB:.0f}", "workers MB": f"{workers / MB:.0f}"}
    return tabulate("inputs done", table)


if __name__ == "__main__":
    main(tyro.cli(Config))
