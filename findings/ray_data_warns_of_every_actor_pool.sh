#!/usr/bin/env bash
# ray 2.60.0: every `map_batches` with a class writes an error line of Ray's core to stderr, "Actor with class name ... has constructor arguments
# in the object store and max_restarts > 0 ... the actor restart will fail", although Ray Data itself puts the arguments there and sets the
# restarts. The class has no argument here; logging_level, log_to_driver and a Python logger do not reach the line.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check "ray[data]==2.60.0" "pandas==3.1.1" "pyarrow==26.0.1" "numpy==2.4.6"
cat > "$folder/pool.py" <<'PYTHON'
import logging

import ray

logging.disable(logging.CRITICAL)
ray.init(num_cpus=2, include_dashboard=False, logging_level=logging.CRITICAL, log_to_driver=False)


class Double:
    """Takes no arguments and holds nothing."""

    def __call__(self, batch):
        return {"id": batch["id"] * 2}


context = ray.data.DataContext.get_current()
context.enable_progress_bars = False
print("ray", ray.__version__)
print("sum", ray.data.range(8).map_batches(Double, concurrency=1, batch_size=4).sum("id"))
PYTHON
"$folder/venv/bin/python" "$folder/pool.py" >"$folder/out" 2>"$folder/err" || { tail -5 "$folder/err" >&2; exit 1; }
cat "$folder/out"
lines=$(grep -c "has constructor arguments in the object store and max_restarts > 0" "$folder/err" || true)
echo "lines on stderr that warn of the pool's own arguments: $lines"
grep -m1 -o "Actor with class name: '[^']*'" "$folder/err" || true
if [ "$lines" -ge 1 ] && grep -q "sum 56" "$folder/out"; then echo "as found"; else echo "CHANGED"; exit 1; fi
