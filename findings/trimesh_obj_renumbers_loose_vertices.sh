#!/usr/bin/env bash
# trimesh 4.8.3: an OBJ that holds a vertex used by no face is read back with other vertex numbers, although the file is read with
# process=False: the loose vertex is dropped unless maintain_order=True is given as well. Labels per vertex (contact, weights) then
# belong to other vertices.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check "trimesh==4.8.3" "numpy==2.2.6"
cd "$folder"
"$folder/venv/bin/python" - <<'PYTHON'
import sys

import trimesh

with open("a.obj", "w") as file:
    file.write("v 9 9 9\nv 0 0 0\nv 1 0 0\nv 0 1 0\nf 2 3 4\n")
counts = {
    "default": len(trimesh.load("a.obj").vertices),
    "process=False": len(trimesh.load("a.obj", process=False).vertices),
    "process=False, maintain_order=True": len(trimesh.load("a.obj", process=False, maintain_order=True).vertices),
}
print("trimesh", trimesh.__version__, "vertices in the file: 4")
for name, count in counts.items():
    print(f"{name}: {count}")
same_as_found = list(counts.values()) == [3, 3, 4]
print("as found" if same_as_found else "CHANGED")
sys.exit(0 if same_as_found else 1)
PYTHON
