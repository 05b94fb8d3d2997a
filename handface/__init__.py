"""The public face of the project: `handface.load().predict("photo.jpg")`. Nothing heavy is imported before `load`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

from handface.version import __version__

if TYPE_CHECKING:
    from handface.predict.session import HandFace

__all__ = ["__version__", "load"]

# In a plain checkout the rooms (pipeline/, model/, trainers/, jobs/) lie beside this folder; an installed package holds them.
if not (Path(__file__).parent / "pipeline").is_dir():
    __path__.append(str(Path(__file__).parents[1]))


def load(
    model: str = "dice-m",
    *,
    hand_model: str | None = None,
    head_model: str | None = None,
    device: str = "auto",
    precision: Literal["fp32", "bf16"] = "fp32",
    batch_size: int = 8,
    mesh: Literal["parametric", "drawn"] = "parametric",
    fit: Literal["on", "off"] = "on",
    depth: str | Path | None = None,
    depth_side: int | None = None,
) -> HandFace:
    """A ready predictor.

    model: a preset name, a checkpoint folder or its model.safetensors.  hand_model, head_model: body files (.npz), if the checkpoint does
    not name its own.  device: auto, cpu, cuda or cuda:N.  precision: fp32, or bf16 for the network alone.  batch_size: photos that go through it together.
    mesh: parametric, the bodies that the parameters pose; drawn, the network's own vertices near them.  fit: on moves the bodies onto the detected points, off gives the network's own answer.
    depth: a Depth Anything checkpoint (folder, hub id or .pth), which tells the fit how far the hand lies from the face.  depth_side: of its
    input, a multiple of 14.  Raises WeightsError, TopologyError, BodyFileError or DepthWeightsError for wrong files, ValueError for a missing device.
    """
    from handface.predict.build import PredictorOptions, build_predictor
    from handface.predict.session import HandFace

    options = PredictorOptions(
        model=model,
        hand_model=hand_model,
        head_model=head_model,
        device=device,
        precision=precision,
        batch_size=batch_size,
        mesh=mesh,
        fit=fit,
        depth=None if depth is None else str(depth),
        depth_side=depth_side,
    )
    return HandFace(build_predictor(options))
