# Every target sets up .venv by itself, and anew when pyproject.toml or requirements.lock change.
# The file .venv/ready-$(TORCH) says that a set-up was completed, and holds the folder's path.
#
#   make TORCH=cpu ...     small CPU builds of torch and torchvision (or cu130, ...: any backend
#                          that `uv pip install --torch-backend` knows); remembered by .venv
#   make PYTHON=path ...   the Python to make .venv with

TORCH ?= $(or $(firstword $(patsubst .venv/ready-%,%,$(wildcard .venv/ready-*))),lock)
TORCH := $(TORCH)
READY := .venv/ready-$(TORCH)
PY    := .venv/bin/python
UV    := $(PY) -m uv --quiet pip
PYTHON ?= $(shell for p in python3 python3.14 python3.13 python3.12 python3.11 python; do \
    $$p -c 'import ensurepip, sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null \
    && { echo $$p; break; }; done)

# A .venv that was copied or moved here, or whose Python is gone, is not ready.
$(shell grep -qsxF "$(CURDIR)" .venv/ready-* && $(PY) -c "" 2>/dev/null || rm -f .venv/ready-*)

.PHONY: help tutorial test test-browser setup lab notebooks results bench gpu sample-set course cost assignment slides site lint lock clean

help:  ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' Makefile

tutorial: $(READY)  ## execute the notebooks; results, and pages to read in build/html
	@$(PY) notebooks/run.py html

test: $(READY)  ## the package, the solutions of the exercises and the set-up
	@$(PY) -m pytest -n 2 --dist worksteal

test-browser: $(READY)  ## execute the notebooks in JupyterLab; their pages, in headless Chromium
	@$(PY) -m pytest -n 2 tests/browser

setup: $(READY)  ## the virtual environment alone

lab: $(READY)  ## open the notebooks in JupyterLab
	@$(PY) -m jupyterlab notebooks

notebooks: $(READY)  ## execute the notebooks in place, ready to commit
	@$(PY) notebooks/run.py inplace
	@$(PY) notebooks/run.py inplace --folder notebooks/solutions

results: $(READY)  ## measure on the sample set, and real images DATA=folder WEIGHTS=file; README
	@$(PY) tests/benchmarks/results.py $(if $(DATA),--data $(DATA)) $(if $(WEIGHTS),--weights $(WEIGHTS))

bench: $(READY) $(if $(DATA),build/peer/ready)  ## speed beside the peer, DATA=folder WEIGHTS=file
	@$(PY) tests/benchmarks/speed.py $(if $(DATA),--data $(DATA)) $(if $(WEIGHTS),--weights $(WEIGHTS))

gpu: $(READY) build/peer/ready  ## all measurements of a GPU: speed beside the peer, cost, accuracy
	@$(PY) tests/benchmarks/speed.py --device cuda --parts inference,arithmetic,runs,quality \
	    --data $(DATA) --weights $(WEIGHTS)
	@$(PY) tests/benchmarks/cost.py --device cuda

sample-set: $(READY)  ## how hard the sample set is, three seeds; its contact sheet
	@$(PY) tests/benchmarks/sample_set.py

course: $(READY)  ## seconds of the notebooks, delays of their widgets; the README's table
	@$(PY) tests/benchmarks/course.py

cost: $(READY)  ## hours of a full reproduction, from times measured here; the README's table
	@$(PY) tests/benchmarks/cost.py

assignment: $(READY)  ## the exercises for nbgrader, instructor's and students' version
	@$(PY) notebooks/assignment.py

slides: $(READY)  ## slides of the notebooks, in build/slides
	@$(PY) notebooks/slides.py

site: $(READY)  ## one folder to publish: course, reference, benchmarks, search, in build/site
	@$(PY) notebooks/publish.py

build/peer/ready:  # the peer needs other versions: a virtual environment of its own
	@$(PYTHON) -m venv build/peer
	@build/peer/bin/python -m pip install --quiet --disable-pip-version-check \
	    "anomalib[core]==2.7.*" FrEIA scikit-learn
	@touch $@

lint: $(READY)  ## style, formatting and types of code and notebooks
	@$(PY) -m ruff check --output-format concise
	@$(PY) -m ruff format --check
	@$(PY) -m mypy fastflow_utils notebooks

lock: $(READY)  ## write requirements.lock anew from pyproject.toml
	@$(UV) compile --universal --generate-hashes --no-emit-index-url \
	    --custom-compile-command "make lock" --python-version 3.11 \
	    --all-extras pyproject.toml -o requirements.lock

clean:  ## remove what was built; not .venv, not the data
	@rm -rf build .pytest_cache .mypy_cache .ruff_cache .hypothesis

# Compiled once here, in half a minute: an import of torch then takes half the time, everywhere.
$(READY): pyproject.toml requirements.lock
	@test -n "$(PYTHON)" || { echo "No Python >= 3.11 found: name one, make PYTHON=path"; exit 1; }
	@echo "Setting up .venv; the first time, this downloads gigabytes on Linux (less: TORCH=cpu)"
	@test -f $@ || $(PYTHON) -m venv --clear .venv
	@rm -f .venv/ready-*
	@$(PY) -m pip install --quiet --disable-pip-version-check uv
ifeq ($(TORCH),lock)
	@$(UV) sync --compile-bytecode --require-hashes requirements.lock
	@$(UV) install --no-deps --editable .
else
# Other builds of the locked versions, from another index: the lock's hashes are not theirs.
	@$(UV) install --compile-bytecode --torch-backend $(TORCH) --no-verify-hashes \
	    --constraints requirements.lock \
	    --editable '.[course,ray,site,teach,test,dev]'
endif
	@$(PY) -m compileall -q fastflow_utils
	@echo "$(CURDIR)" > $@
