#!/usr/bin/env bash
# torch 2.13.0: filling a tensor of the device "meta" costs nothing with `uniform_`, but the first `normal_` imports torch's compiler
# and sympy, some 800 modules and over a second of CPU. A network that is made on "meta" so that loading its weights is quick is made
# more slowly than with real random numbers, as soon as one of its parameters is drawn from a normal distribution. In a process that
# computes on the CPU alone the first `step` of an optimizer imports the same modules.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check "torch==2.13.0" "numpy==2.4.6" 2> /dev/null
cat > "$folder/first_use.py" <<'PYTHON'
"""What the first use of something imports: prints the number of new modules, whether the compiler is among them, and CPU seconds."""

import sys
import time

import torch


def step():
    weight = torch.nn.Parameter(torch.zeros(3))
    optimizer = torch.optim.SGD([weight], lr=0.1)
    weight.grad = torch.ones(3)
    optimizer.step()


uses = {
    "uniform_ on meta": lambda: torch.empty(3, device="meta").uniform_(),
    "normal_ on meta": lambda: torch.empty(3, device="meta").normal_(),
    "normal_ on cpu": lambda: torch.empty(3).normal_(),
    "optimizer.step": step,
}
before, start = set(sys.modules), time.process_time()
uses[sys.argv[1]]()
new = set(sys.modules) - before
print(len(new), "torch._dynamo" in new, round(time.process_time() - start, 1))
PYTHON
"$folder/venv/bin/python" - "$folder/first_use.py" <<'PYTHON'
import subprocess
import sys
from importlib.metadata import version

print("torch", version("torch"))
found = {}
for use in ("uniform_ on meta", "normal_ on cpu", "normal_ on meta", "optimizer.step"):
    command = [sys.executable, sys.argv[1], use]
    answer = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    found[use] = int(answer[0]), answer[1] == "True"
    print(f"first {use}: {answer[0]} modules imported, compiler among them: {answer[1]}, {answer[2]} CPU s")
as_found = (
    found["uniform_ on meta"] == (0, False)
    and found["normal_ on cpu"][0] < 20
    and all(found[use][0] > 300 and found[use][1] for use in ("normal_ on meta", "optimizer.step"))
)
print("as found" if as_found else "CHANGED")
sys.exit(0 if as_found else 1)
PYTHON
