# `make demo` and `make test` set up everything they need; PYTHON picks the interpreter (3.11 or later).
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
PIP    := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt

.PHONY: demo test test-fast test-unpinned test-oldest setup lint tree format docs browser schema clean

demo: $(VENV)/.demo
	$(BIN)/handface demo --output out/demo

# Two at a time, a file each; tests start Ray clusters and training ranks, so more would only wait for each other.
test: lint docs browser
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

# The newest versions that pip finds today, and the oldest that pyproject.toml allows, but for torch, of which pip would fetch a CUDA build:
# the same labels, and a way to a mesh.
test-unpinned: VERSIONS = grep '^torch==' constraints.txt
test-oldest:   VERSIONS = grep '^torch==' constraints.txt; sed -nE 's/^  "([a-z-]+)(\[[a-z]+\])?>=([0-9.]+).*/\1==\3/p' pyproject.toml | grep -v '^torch='
test-unpinned test-oldest: test-%:
	$(PYTHON) -m venv --clear $(VENV)-$*
	{ $(VERSIONS); } > $(VENV)-$*/versions.txt
	$(VENV)-$*/bin/python -m pip install --quiet --disable-pip-version-check -c $(VENV)-$*/versions.txt torch
	$(VENV)-$*/bin/python -m pip install --quiet --disable-pip-version-check -c $(VENV)-$*/versions.txt '.[demo]' pytest pytest-timeout
	$(VENV)-$*/bin/python -m pip check
	OMP_NUM_THREADS=1 $(VENV)-$*/bin/python -m pytest tests/pipeline/test_golden.py tests/pipeline/test_golden_keys.py
	rm -rf out/$*
	$(VENV)-$*/bin/handface predict jobs/page/examples/temple.jpg --output out/$*/predictions
	$(VENV)-$*/bin/handface annotate --local --input jobs/page/examples --output out/$*/parts

setup: $(VENV)/.dev

$(VENV)/bin/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "handface needs Python 3.11 or later: make PYTHON=python3.11 ...")'
	$(PYTHON) -m venv $(VENV)

$(VENV)/.demo: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(PIP) -e '.[demo]'
	touch $@

$(VENV)/.dev: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(PIP) -e '.[dev]'
	touch $@

# What needs no Ray, no browser and no training.
test-fast: setup
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile -m "not slow" \
		tests/benchmarks tests/model tests/pipeline/contract tests/pipeline/stages tests/pipeline/sources tests/jobs/test_cli.py tests/jobs/test_flags.py

lint: setup tree
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	cd .lint && $(abspath $(BIN))/lint-imports --config ../pyproject.toml

# One package tree, as an installed handface has it, for tools that do not follow the mapping of folders to import names.
tree:
	@rm -rf .lint && mkdir .lint && cp -rp handface .lint && cp -rp jobs model pipeline trainers .lint/handface

format: setup
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: setup tree
	cp CONTRIBUTING.md docs/contributing.md && sed -i 's|](docs/|](|g; s|](CHANGELOG.md)|](changelog.md)|; s|](SECURITY.md)|](security.md)|' docs/contributing.md
	cp CHANGELOG.md docs/changelog.md && cp SECURITY.md docs/security.md && sed -i 's|](docs/|](|g' docs/security.md
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

# The page tests drive a real browser, the one thing pip cannot install.
browser:
	@command -v chromedriver >/dev/null || { apt-get update -qq && apt-get install -y -qq --no-install-recommends chromium chromium-driver >/dev/null; } \
		|| { echo "The page tests need chromium and chromedriver: install them with your package manager." >&2; exit 1; }

schema: setup
	$(BIN)/python -c 'import json, handface.pipeline.contract.sample as sample; print(json.dumps(sample.json_schema(), indent=1))' > docs/sample.schema.json

clean:
	rm -rf $(VENV) $(VENV)-unpinned $(VENV)-oldest out build .lint
