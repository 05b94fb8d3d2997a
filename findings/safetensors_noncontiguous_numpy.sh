#!/usr/bin/env bash
# safetensors 0.8.0: numpy.save of an array that is not contiguous (a transposed view) writes the order of memory under the view's shape.
# No error: the numbers read back are the right ones in the wrong places. np.ascontiguousarray before saving is the way out.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check "safetensors==0.8.0" "numpy==2.2.6"
"$folder/venv/bin/python" - <<'PYTHON'
import sys

import numpy as np
import safetensors
from safetensors.numpy import load, save

matrix = np.arange(6, dtype=np.float32).reshape(2, 3)
view = matrix.T
read = load(save({"a": view}))["a"]
safe = load(save({"a": np.ascontiguousarray(view)}))["a"]
print("safetensors", safetensors.__version__, "numpy", np.__version__)
print("saved", view.tolist())
print("read ", read.tolist())
print("read after ascontiguousarray", safe.tolist())
same_as_found = read.shape == view.shape and not np.array_equal(read, view) and np.array_equal(safe, view)
print("as found" if same_as_found else "CHANGED")
sys.exit(0 if same_as_found else 1)
PYTHON
