#!/usr/bin/env bash
# ray 2.60.0: `ray.init` on a machine of its own puts its handler in the place of the program's SIGTERM handler and says nothing, so the program
# no longer learns that it is to stop: batch systems and containers stop programs in this way. A handler set after `ray.init` is called.
# With Ray's own, programs ended with other exit codes than the 143 of a shell, and Ray's core wrote a stack to stderr.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check "ray==2.60.0"
cat > "$folder/stop.py" <<'PYTHON'
import os
import signal
import sys
import time

import ray


def own(number, frame):
    print("the program's handler is called", flush=True)
    sys.exit(0)


def name():
    handler = signal.getsignal(signal.SIGTERM)
    return f"{handler.__module__}.{handler.__qualname__}"


signal.signal(signal.SIGTERM, own)
print("ray", ray.__version__)
print("before init:", name())
ray.init(num_cpus=1, include_dashboard=False, log_to_driver=False)
print("after init:", name())
signal.signal(signal.SIGTERM, own)
os.kill(os.getpid(), signal.SIGTERM)
time.sleep(20)
PYTHON
"$folder/venv/bin/python" "$folder/stop.py" >"$folder/out" 2>"$folder/err" || { tail -5 "$folder/err" >&2; exit 1; }
cat "$folder/out"
if grep -q "^before init: __main__.own$" "$folder/out" && grep -q "^after init: ray\." "$folder/out" && grep -q "^the program's handler is called$" "$folder/out"; then
  echo "as found"
else
  echo "CHANGED"
  exit 1
fi
