"""Read annotated shards with stock webdataset: no code of handface is needed.

python examples/read_shards.py out/parts
"""

import json
import sys
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image
from safetensors.numpy import load

try:
    import webdataset as wds
except ModuleNotFoundError:
    sys.exit("examples/read_shards.py reads with the package webdataset: pip install webdataset")


def main(folder: str) -> int:
    """Print a line for each sample. Returns how many there are."""
    count = 0
    for sample in wds.WebDataset(sorted(map(str, Path(folder).glob("*.tar"))), shardshuffle=False, empty_check=False):
        image = np.asarray(Image.open(BytesIO(sample["jpg"])))
        labels = load(sample["safetensors"])
        licence = json.loads(sample["json"])["source"].get("licence")
        # 16-bit pictures by Pillow: webdataset's own decoders cut depth off at 255.
        depth = np.asarray(Image.open(BytesIO(sample["depth.png"]))) if "depth.png" in sample else None
        farthest = "no depth map" if depth is None else f"depth up to {depth.max()}"
        print(sample["__key__"], image.shape, labels["face_keypoints_2d"].shape, licence, farthest)
        count += 1
    return count


if __name__ == "__main__":
    if len(sys.argv) != 2 or not Path(sys.argv[1]).is_dir():
        sys.exit("give the folder that holds the shards: python examples/read_shards.py out/parts")
    print(main(sys.argv[1]), "samples")
