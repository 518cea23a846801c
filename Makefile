# `make` lists the targets. Everything runs in .venv, made from requirements.lock.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
MAKEFLAGS += --no-builtin-rules

# The interpreter that .venv is made with: `make install PYTHON=/path/to/python3.11`.
PYTHON ?=
# Tests run in several processes, a file in one, since most fixtures are a file's. ARGS="-n0 --pdb"
# debugs in this one.
PYTEST := -m pytest --numprocesses auto --maxprocesses 4 --dist loadfile
# Arguments for a command: `make demo ARGS="--help"`, `make test ARGS="-k losses"`.
ARGS ?=
# Where `make results-health` and its like find the splits, which are not part of the project.
DATA ?= data
# What `make serve` serves.
MODEL ?= runs/demo/export

VENV := .venv
BIN := $(VENV)/bin
# JAX and PyTorch have an environment of their own: TensorFlow's pins bind them to nothing there.
BACKENDS := .venv-backends
# KServe too: it wants pandas 2.
SERVING := .venv-serving
# What of pyproject.toml .venv has: extras, which are for users, and groups.
EXTRAS := scann pipelines demo tune
GROUPS := notebooks docs dev

# What pip says about its own updates is noise here.
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: help install demo serve test test-backends test-serving test-packaging lint format notebooks docs lock clean

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z%-]+:.*## / {printf "  make %-14s %s\n", $$1, $$2}' Makefile

install: $(VENV)/.installed ## Make .venv: the locked dependencies, then this package, editable

# Both stamps are written last, so an interrupted step is done again: the dependencies from nothing
# whenever the lock's text changes (the stamp is its copy), the package alone when its packaging does.
$(VENV)/.locked: requirements.lock
$(BACKENDS)/.locked: requirements-backends.lock
$(SERVING)/.locked: requirements-serving.lock
$(VENV)/.locked $(BACKENDS)/.locked $(SERVING)/.locked:
	@if cmp --silent $< $@; then touch $@; exit; fi; \
	is311() { "$$1" -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' 2>/dev/null; }; \
	for python in $(if $(PYTHON),"$(PYTHON)",python3.11 python3) ""; do \
		if [ -z "$$python" ] || is311 "$$python"; then break; fi; \
	done; \
	if [ -z "$$python" ]; then \
		echo 'make: $< is for CPython 3.11, and $(if $(PYTHON),PYTHON=$(PYTHON) \
	is not one,neither python3.11 nor python3 is one). Name one: make install PYTHON=/path/to/python3.11' >&2; \
		exit 1; \
	fi; \
	echo "Installing $< into $(@D) with $$("$$python" --version): a few minutes."; \
	rm -rf $(@D); \
	"$$python" -m venv $(@D); \
	$(@D)/bin/python -m pip install --quiet --require-hashes -r $<; \
	cp $< $@

$(VENV)/.installed: $(VENV)/.locked pyproject.toml
	@$(BIN)/python -m pip install --quiet --no-index --no-deps --no-build-isolation -e .
	@touch $@

demo: install ## Train, evaluate, export and recommend on a small data set
	$(BIN)/tfrs-croloss demo $(ARGS)

# The tables of docs/results*.md, each from a file of docs/results/. DATA is the folder of the splits.
results-%: docs/results/%.yaml install ## The table of docs/results/%.yaml: make results-health DATA=FOLDER
	$(BIN)/tfrs-croloss compare --config $< --data "$(DATA)" --name $@ $(ARGS)

serve: $(SERVING)/.locked ## Serve MODEL=runs/demo/export over HTTP, on port 8501
	$(SERVING)/bin/python -m pipelines serve --model $(MODEL) $(ARGS)

test: lint ## Check the code as lint does, then run the tests
	$(BIN)/python $(PYTEST) $(ARGS)

test-backends: $(BACKENDS)/.locked ## Run the tests of the losses on JAX and on PyTorch, and the notebook on JAX
	for backend in jax torch; do \
		KERAS_BACKEND=$$backend $(BACKENDS)/bin/python $(PYTEST) tests/backends tests/losses tests/notebooks \
			tfrs_croloss/losses $(ARGS); \
	done

test-serving: install $(SERVING)/.locked ## Run the tests of the HTTP service, and the notebook about it
	$(BIN)/python $(PYTEST) tests/service \
		"tests/notebooks/test_notebooks.py::test_it_runs[4-from-model-to-service]" $(ARGS)

test-packaging: install ## Install the wheel into clean environments with each extra alone, and use it
	$(BIN)/python -m tests.packaging.extras $(ARGS)

lint: install ## Check the code, its formatting and its types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: install ## Format the code and apply ruff's safe fixes
	$(BIN)/ruff check --fix --exit-zero .
	$(BIN)/ruff format .

# With ARGS, the environments that these need alone: 5 is on JAX, 4 starts the service in its own.
NOTEBOOKS = $(or $(ARGS),1 2 3 4 5)
notebooks: $(if $(filter-out 5%,$(NOTEBOOKS)),install)
notebooks: $(if $(filter 4%,$(NOTEBOOKS)),$(SERVING)/.locked)
notebooks: $(if $(filter 5%,$(NOTEBOOKS)),$(BACKENDS)/.locked)
notebooks: ## Run notebooks/, and write the outputs into them: ARGS="1 5" for some
	$(if $(filter-out 5%,$(NOTEBOOKS)),$(BIN)/python -m notebooks.execute $(ARGS))
	$(if $(filter 5%,$(NOTEBOOKS)),KERAS_BACKEND=jax $(BACKENDS)/bin/python -m notebooks.execute $(ARGS))

# The pages are the repository's own, put together where the site's generator looks for them.
docs: install ## Build the site into build/site, and fail on a warning
	rm -rf build/docs build/site
	mkdir -p build/docs
	cp -r --parents *.md LICENSE NOTICE docs tfrs_croloss/commands/demo.yaml \
		tfrs_croloss/commands/tuning/spaces.yaml build/docs
	cp -r website/api website/website.css build/docs
	$(BIN)/python -m website.notebooks build/docs
	$(BIN)/python -m zensical build --clean --strict
	@echo 'Read it: $(BIN)/python -m http.server --directory build/site --bind 127.0.0.1'

# uv reads no pip configuration, so a hash of some private rebuild of a wheel cannot slip in: it
# would fail everywhere else. Versions stay unless `make lock ARGS=--upgrade`.
# PyTorch's CPU build stands on an index of PyTorch's own: tell uv and pip of it (UV_FIND_LINKS and
# PIP_FIND_LINKS, or UV_EXTRA_INDEX_URL and PIP_EXTRA_INDEX_URL).
lock: $(VENV)/.locked ## Resolve the dependencies in pyproject.toml into the three locks, with hashes
	@compile() { \
		$(BIN)/uv pip compile --quiet --no-config --generate-hashes --python $(BIN)/python \
			--python-version 3.11 --python-platform x86_64-manylinux_2_28 --no-build-isolation \
			--custom-compile-command 'make lock' --output-file "$$@" $(ARGS) pyproject.toml; \
	}; \
	compile requirements.lock $(EXTRAS:%=--extra %) $(GROUPS:%=--group %); \
	compile requirements-backends.lock --extra demo --extra evaluation --group backends --group notebooks \
		--constraint requirements.lock; \
	compile requirements-serving.lock --extra serving

clean: ## Remove .venv, caches, builds and runs
	rm -rf $(VENV) $(BACKENDS) $(SERVING) build dist *.egg-info runs .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
