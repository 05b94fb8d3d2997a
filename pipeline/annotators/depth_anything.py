"""Depth Anything V1 and V2 (Yang et al., CVPR 2024 and NeurIPS 2024) through transformers, from a checkpoint folder or hub id."""

from __future__ import annotations

import json
import warnings
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from handface.extras import extra
from handface.model.network.openvino_import import import_openvino, openvino_core
from handface.pipeline.annotators.depth_anything_pth import ENDINGS, OriginalLayoutError, check_original, load_original
from handface.pipeline.contract.sample import AnnotatorRecord, DepthKind

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray

WEIGHTS = "model.safetensors"


class DepthWeightsError(RuntimeError):
    """A checkpoint cannot be used; the message names the folder or file, what was expected and what to do."""


@dataclass(frozen=True)
class DepthAnythingConfig:
    """Which checkpoint, and how it is run."""

    checkpoint: str
    """A folder with config.json and model.safetensors, a hub id such as depth-anything/Depth-Anything-V2-Small-hf, or the authors'
    own file, such as depth_anything_v2_vits.pth."""
    revision: str | None = None
    """Branch, tag or commit of a hub id; a folder has none."""
    backend: Literal["auto", "torch", "openvino"] = "auto"
    """openvino runs bfloat16 on the CPU; auto takes it where the extra is installed and `device` is the CPU."""
    side: int | None = None
    """Side of the network's input, a multiple of 14; None is the checkpoint's own (518). 392 costs half."""
    resize: Literal["auto", "closest", "lower_bound"] = "auto"
    """How a picture is brought to the network's size: closest to it, as transformers does, or no side below it, as the authors' code
    does (up to four times the work for long pictures); auto is lower_bound for their own files."""
    device: str = "cpu"
    """Torch device of the torch backend."""
    batch_size: int = 4
    """Images of one network size that go through together."""


@dataclass(frozen=True)
class Preprocessing:
    """The DPT image processor's numbers, from the checkpoint's preprocessor_config.json where it has one."""

    side: int = 518
    multiple: int = 14
    keep_aspect: bool = True
    mean: tuple[float, ...] = (0.485, 0.456, 0.406)
    std: tuple[float, ...] = (0.229, 0.224, 0.225)
    lower_bound: bool = False

    def network_size(self, height: int, width: int) -> tuple[int, int]:
        """(height, width) of the network's input: scaled as little as possible to `side`, rounded to the patch grid.

        lower_bound: the shorter side becomes `side`.
        """
        scales = self.side / height, self.side / width
        if self.lower_bound:
            sides = (round(max(scales) * n / self.multiple) * self.multiple for n in (height, width))
            return max(self.side, next(sides)), max(self.side, next(sides))
        if self.keep_aspect:
            scales = (min(scales, key=lambda scale: abs(1 - scale)),) * 2
        rounded = [round(s * n / self.multiple) * self.multiple for s, n in zip(scales, (height, width), strict=True)]
        return max(self.multiple, rounded[0]), max(self.multiple, rounded[1])

    def __call__(self, image: NDArray[np.uint8]) -> NDArray[np.float32]:
        """(H, W, 3) uint8 RGB -> (3, h, w) float32: bicubic, scaled to [0, 1], normalised.

        With antialiasing as transformers does it; lower_bound: without, as the authors' code does.
        """
        height, width = self.network_size(*image.shape[:2])
        if self.lower_bound:
            import cv2

            scaled = cv2.resize(image / np.float32(255), (width, height), interpolation=cv2.INTER_CUBIC)
        else:
            from PIL import Image

            resized = Image.fromarray(image).resize((width, height), Image.Resampling.BICUBIC)
            scaled = np.asarray(resized, np.float32) / 255
        normalised = (scaled - np.array(self.mean, np.float32)) / np.array(self.std, np.float32)
        return np.ascontiguousarray(normalised.transpose(2, 0, 1), np.float32)


class DepthAnything:
    """Dense depth. Relative checkpoints give disparity (affine-inverse), metric ones metres. One process, torch's threads.

    Raises DepthWeightsError if the checkpoint is missing, incomplete or of another model.
    """

    name = "depth-anything"

    def __init__(self, config: DepthAnythingConfig) -> None:
        self.config = config
        original = Path(config.checkpoint).expanduser()
        if original.suffix in ENDINGS:
            self.weights = original
            with _quietly():
                model = _load_original(original)
            estimates = model.config.depth_estimation_type
            self.preprocess = Preprocessing(lower_bound=config.resize != "closest")
        else:
            folder = _folder(config)
            self.weights = folder / WEIGHTS
            estimates = _described(folder).get("depth_estimation_type")
            with _quietly():
                model = _load(folder)
            self.preprocess = replace(read_preprocessing(folder), lower_bound=config.resize == "lower_bound")
        self.kind: DepthKind = "metric" if estimates == "metric" else "affine-inverse"
        if config.side is not None:
            if config.side < 14 or config.side % self.preprocess.multiple:
                raise ValueError(f"side is {config.side}, expected a multiple of {self.preprocess.multiple}")
            self.preprocess = replace(self.preprocess, side=config.side)
        self.backend = _backend(config)
        self._predict = (
            _openvino_predictor(model) if self.backend == "openvino" else _torch_predictor(model, config.device)
        )

    def annotate(self, images: Sequence[NDArray[np.uint8]]) -> list[NDArray[np.float32]]:
        """Images (H, W, 3) uint8 RGB -> float32 maps (H, W), in metres or as disparity (see `kind`)."""
        buckets: dict[tuple[int, int], list[int]] = defaultdict(list)
        for index, image in enumerate(images):
            buckets[self.preprocess.network_size(*image.shape[:2])].append(index)
        maps: list[NDArray[np.float32]] = [np.zeros((0, 0), np.float32)] * len(images)
        for members in buckets.values():
            for start in range(0, len(members), self.config.batch_size):
                chosen = members[start : start + self.config.batch_size]
                predicted = self._predict(np.stack([self.preprocess(images[i]) for i in chosen]))  # (B, h, w)
                for index, depth in zip(chosen, predicted, strict=True):
                    maps[index] = upsample(depth, images[index].shape[:2])
        return maps

    def records(self) -> tuple[AnnotatorRecord, ...]:
        """Checkpoint, version and hash of its safetensors file."""
        from importlib.metadata import version

        from handface.pipeline.contract.model_store import file_sha256

        runtime = f"transformers {version('transformers')}"
        if self.backend == "openvino":
            runtime += f", openvino {version('openvino')} bf16"
        licence = "see the checkpoint's card (V2 small and V1: Apache-2.0; V2 base, large: CC-BY-NC-4.0)"
        digest = file_sha256(self.weights)
        settings = {"side": float(self.preprocess.side), "lower_bound": float(self.preprocess.lower_bound)}
        return (AnnotatorRecord(self.name, "depth", runtime, digest, licence, settings),)


def check_checkpoint(checkpoint: str) -> None:
    """Look whether a file or folder of this machine can be a checkpoint, before others wait for it; a hub id is not asked for.

    Raises DepthWeightsError as `DepthAnything` would.
    """
    path = Path(checkpoint).expanduser()
    if path.suffix in ENDINGS:
        try:
            check_original(path)
        except OriginalLayoutError as error:
            raise DepthWeightsError(str(error)) from error
    elif path.is_dir():
        _described(path)
        read_preprocessing(path)


@contextmanager
def _quietly() -> Iterator[None]:
    """Without transformers' progress bars and what it and torch say of their own code while they load and trace a network."""
    with extra("depth", "Depth Anything"):
        from transformers.utils import logging as theirs

    level, bar = theirs.get_verbosity(), theirs.is_progress_bar_enabled()
    theirs.set_verbosity_error()
    theirs.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            warnings.filterwarnings("ignore", message="Converting a tensor to a Python")
            yield
    finally:
        theirs.set_verbosity(level)
        if bar:
            theirs.enable_progress_bar()


def upsample(depth: NDArray[np.float32], shape: tuple[int, ...]) -> NDArray[np.float32]:
    """(h, w) prediction -> (H, W), bicubic with pixel centres at half integers, as the transformers processor does."""
    import torch

    grid = torch.from_numpy(np.array(depth, np.float32))[None, None]
    resized = torch.nn.functional.interpolate(grid, size=tuple(shape), mode="bicubic", align_corners=False)
    return resized[0, 0].numpy()


def read_preprocessing(folder: Path) -> Preprocessing:
    """The checkpoint's preprocessing, or the published models' where it has no preprocessor_config.json."""
    path = folder / "preprocessor_config.json"
    if not path.is_file():
        return Preprocessing()
    try:
        raw = json.loads(path.read_text())
        side = int(raw["size"]["height"])
        if int(raw["size"]["width"]) != side:
            raise ValueError("height and width differ")
        return Preprocessing(
            side,
            int(raw.get("ensure_multiple_of", 1)),
            bool(raw.get("keep_aspect_ratio", False)),
            tuple(raw["image_mean"]),
            tuple(raw["image_std"]),
        )
    except (ValueError, KeyError, TypeError) as error:
        raise DepthWeightsError(f"{path} is not a DPT image processor's configuration: {error!r}") from error


def _folder(config: DepthAnythingConfig) -> Path:
    """The checkpoint as a local folder; only a hub id that is not in its cache touches the network."""
    path = Path(config.checkpoint).expanduser()
    if path.is_dir():
        return path
    parts = config.checkpoint.split("/")
    if len(parts) != 2 or not all(parts) or parts[0] in {".", "..", "~"}:
        raise DepthWeightsError(
            f"{config.checkpoint} is neither a folder, nor a .pth file of the authors', nor a hub id of the form owner/name"
        )
    with extra("depth", f"Depth Anything ({config.checkpoint})"):
        from huggingface_hub import snapshot_download

    try:
        files = ["config.json", "preprocessor_config.json", WEIGHTS]
        return Path(snapshot_download(config.checkpoint, revision=config.revision, allow_patterns=files))
    except Exception as error:  # the hub client raises errors of its own, of httpx and of the system
        raise DepthWeightsError(
            f"{config.checkpoint} is no folder here, and as a hub id it could not be fetched ({type(error).__name__}: {error}). Download its config.json, "
            f"preprocessor_config.json and {WEIGHTS} elsewhere and give the folder"
        ) from error


def _described(folder: Path) -> dict[str, Any]:
    """config.json, checked to be a Depth Anything checkpoint with its weights beside it."""
    try:
        described: dict[str, Any] = json.loads((folder / "config.json").read_text())
    except (OSError, ValueError) as error:
        raise DepthWeightsError(
            f"{folder} holds no readable config.json ({error}); give a transformers checkpoint folder"
        ) from error
    found = described.get("model_type")
    if found != "depth_anything":
        raise DepthWeightsError(f"{folder}/config.json has model_type {found!r}, expected 'depth_anything'")
    if not (folder / WEIGHTS).is_file():
        raise DepthWeightsError(
            f"{folder} has no {WEIGHTS}; .bin checkpoints are pickles and are not read, convert it first"
        )
    return described


def _load_original(path: Path) -> Any:
    if not path.is_file():
        raise DepthWeightsError(f"{path}: there is no such file")
    try:
        return load_original(path)
    except OriginalLayoutError as error:
        raise DepthWeightsError(str(error)) from error


def _load(folder: Path) -> Any:
    from safetensors import SafetensorError

    with extra("depth", f"Depth Anything ({folder})"):
        from transformers import DepthAnythingForDepthEstimation

    try:
        loaded: Any = DepthAnythingForDepthEstimation.from_pretrained(
            folder, local_files_only=True, use_safetensors=True, output_loading_info=True
        )
    except (SafetensorError, RuntimeError, OSError, ValueError) as error:
        raise DepthWeightsError(f"{folder / WEIGHTS} cannot be read: {error}") from error
    model, info = loaded
    if info["missing_keys"]:
        missing = sorted(info["missing_keys"])
        raise DepthWeightsError(f"{folder / WEIGHTS} lacks {len(missing)} weights of its config, first {missing[0]}")
    return model.float().eval()


def _backend(config: DepthAnythingConfig) -> Literal["torch", "openvino"]:
    from importlib.util import find_spec

    installed = find_spec("openvino") is not None
    if config.backend == "openvino" and not installed:
        raise DepthWeightsError("backend openvino is not installed: pip install 'handface[openvino]'")
    if config.backend == "auto":
        return "openvino" if installed and config.device == "cpu" else "torch"
    return config.backend


Predictor = Callable[["NDArray[np.float32]"], "NDArray[np.float32]"]  # (B, 3, h, w) -> (B, h, w)


def _torch_predictor(model: Any, device: str) -> Predictor:
    import torch

    model = model.to(device)

    def predict(pixels: NDArray[np.float32]) -> NDArray[np.float32]:
        with torch.inference_mode():
            depth: NDArray[np.float32] = (
                model(torch.from_numpy(pixels).to(device)).predicted_depth.float().cpu().numpy()
            )
        return depth

    return predict


def _openvino_predictor(model: Any) -> Predictor:
    """bfloat16 on the CPU (float32 where it has none), with torch's number of threads; one graph per input shape."""
    import torch

    openvino = import_openvino()

    core = openvino_core()
    graphs: dict[tuple[int, ...], Any] = {}
    options = {"INFERENCE_PRECISION_HINT": "bf16", "INFERENCE_NUM_THREADS": torch.get_num_threads(), "NUM_STREAMS": 1}

    def predict(pixels: NDArray[np.float32]) -> NDArray[np.float32]:
        if pixels.shape not in graphs:
            with _quietly():
                converted = openvino.convert_model(_traceable(model), example_input=torch.from_numpy(pixels))
            converted.reshape(list(pixels.shape))
            graphs[pixels.shape] = core.compile_model(converted, "CPU", options)
        depth: NDArray[np.float32] = graphs[pixels.shape](pixels)[0]
        return depth

    return predict


def _traceable(model: Any) -> torch.nn.Module:
    """The same network with a plain tensor in and out, as the converter's tracer wants it."""
    import torch

    class DepthOnly(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = model

        def forward(self, pixel_values: torch.Tensor) -> torch.Tensor:
            depth: torch.Tensor = self.network(pixel_values).predicted_depth
            return depth

    return DepthOnly().eval()
