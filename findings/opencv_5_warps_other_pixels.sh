#!/usr/bin/env bash
# opencv-python-headless 5.0.0.93: `warpAffine` with INTER_LINEAR gives other pixels than 4.14.0.94 for the same picture and matrix (one
# pixel in five, up to 6 of 255), as it no longer rounds places to 1/32 of a pixel; `resize` and JPEG decoding give the same. Crops,
# keys made of their pixels, and scores of networks that see them change with the version.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cat > "$folder/warp.py" <<'PYTHON'
import sys

import cv2
import numpy as np

y, x = np.mgrid[:240, :320]
picture = np.stack([(x * 5 + y * 3) % 256, (x * y // 7) % 256, (x * x // 50 + y) % 256], -1).astype(np.uint8)
matrix = cv2.getRotationMatrix2D((160, 120), 7, 0.7)
warped = cv2.warpAffine(picture, matrix, (224, 224), flags=cv2.INTER_LINEAR)
# the same by its definition, where all four neighbours are inside
inverse = cv2.invertAffineTransform(matrix)
v, u = np.mgrid[:224, :224]
px, py = (inverse @ np.stack([u.ravel(), v.ravel(), np.ones(u.size)])).reshape(2, 224, 224)
left, top = np.floor(px).astype(int), np.floor(py).astype(int)
inside = (left >= 0) & (top >= 0) & (left < 319) & (top < 239)
left, top = left.clip(0, 318), top.clip(0, 238)
a, b = (px - left)[..., None], (py - top)[..., None]
exact = (picture[top, left] * (1 - a) + picture[top, left + 1] * a) * (1 - b) + (
    picture[top + 1, left] * (1 - a) + picture[top + 1, left + 1] * a
) * b
error = np.abs(warped - exact)[inside]
print(f"OpenCV {cv2.__version__}: off from exact bilinear by {error.max():.2f} of 255 at most, {error.mean():.3f} on average")
np.savez(sys.argv[1], warped=warped, resized=cv2.resize(picture, (224, 224), interpolation=cv2.INTER_AREA))
PYTHON
for version in 4.14.0.94 5.0.0.93; do
  python3 -m venv "$folder/$version"
  "$folder/$version/bin/pip" install --quiet --disable-pip-version-check "opencv-python-headless==$version" "numpy==2.2.6"
  "$folder/$version/bin/python" "$folder/warp.py" "$folder/$version.npz"
done
FOLDER="$folder" "$folder/5.0.0.93/bin/python" - <<'PYTHON'
import os
import sys

import numpy as np

old, new = (np.load(f"{os.environ['FOLDER']}/{version}.npz") for version in ("4.14.0.94", "5.0.0.93"))
change = np.abs(old["warped"].astype(int) - new["warped"])
share, largest = (change > 0).any(-1).mean(), change.max()
same_resize = np.array_equal(old["resized"], new["resized"])
print(f"warpAffine: {share:.1%} of the pixels differ, by up to {largest} of 255; resize: {'same' if same_resize else 'differs'}")
as_found = share > 0.1 and largest >= 4 and same_resize
print("as found" if as_found else "CHANGED")
sys.exit(0 if as_found else 1)
PYTHON
