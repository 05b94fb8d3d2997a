#!/usr/bin/env bash
# webdataset 1.0.2: .decode("rgb8") turns a 16-bit grey PNG into 8 bits by cutting off at 255: 1000 and 40000 both read as 255, without a
# warning. Depth maps stored as 16-bit PNG lose nearly everything. Decode such members by Pillow from the raw bytes instead.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check "webdataset==1.0.2" "numpy==2.2.6" "pillow==11.3.0"
cd "$folder"
"$folder/venv/bin/python" - <<'PYTHON'
import io
import sys
import tarfile
from importlib.metadata import version

import numpy as np
import webdataset as wds
from PIL import Image

depth = np.array([[3, 1000, 40000]], np.uint16)
stream = io.BytesIO()
Image.fromarray(depth).save(stream, "PNG")
with tarfile.open("a.tar", "w") as tar:
    info = tarfile.TarInfo("0001.depth.png")
    info.size = len(stream.getvalue())
    tar.addfile(info, io.BytesIO(stream.getvalue()))
decoded = next(iter(wds.WebDataset("a.tar", shardshuffle=False).decode("rgb8")))["depth.png"]
raw = next(iter(wds.WebDataset("a.tar", shardshuffle=False)))["depth.png"]
by_pillow = np.asarray(Image.open(io.BytesIO(raw)))
print("webdataset", version("webdataset"), "Pillow", version("pillow"))
print("stored", depth.tolist(), "rgb8", decoded[..., 0].tolist(), decoded.dtype, "Pillow", by_pillow.tolist(), by_pillow.dtype)
same_as_found = decoded[..., 0].tolist() == [[3, 255, 255]] and by_pillow.tolist() == depth.tolist()
print("as found" if same_as_found else "CHANGED")
sys.exit(0 if same_as_found else 1)
PYTHON
