# `make` alone lists the targets.
SHELL := /bin/bash
PYTHON ?= python3.11
PORT ?= 3000
BIN := .venv/bin
# a file's tests in one process; twice as many as there are cores, as most wait for Dagster's daemon
SIDE_BY_SIDE := -n 4 --dist loadfile --no-loadscope-reorder
export SEG_STORE ?= $(CURDIR)/.local/store
export DAGSTER_HOME ?= $(CURDIR)/.local/dagster
# events of many blocks go to the database together
export DAGSTER_EVENT_BATCH_SIZE ?= 1000
export SEG_TEST_DATA ?= $(CURDIR)/../shared/data

.DEFAULT_GOAL := help
.PHONY: help venv demo ui view browser test test-fast test-data test-gpu test-k8s test-k8s-kills examples bench bench-quick bench-at-size contexts lint format constraints clean

help: ## list the targets
	@grep -E '^[a-z0-9-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 16

venv: .venv/installed ## make .venv with the pinned dependencies

.venv/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --disable-pip-version-check --progress-bar off -c constraints.txt -e '.[dev]'
	touch $@

demo: venv ## a phantom, from nothing to a segmentation, all of it through Dagster
	$(BIN)/seg phantom $(SEG_STORE)/volumes/phantom --shape 96,192,192 --seed 1
	$(BIN)/seg volume add examples/phantom/phantom.yaml
	$(BIN)/seg run add examples/phantom/demo.yaml
	$(BIN)/python -m seg_assets materialize demo phantom
	$(BIN)/seg report demo phantom
	@echo && echo "Look at all of it in a browser with: make ui"

ui: venv ## webserver and daemon on PORT (3000), and what its links open: seg view
	mkdir -p $(DAGSTER_HOME) && cp -n seg_assets/dagster.yaml $(DAGSTER_HOME)/ || true
	$(BIN)/seg view --no-open & trap "kill $$! 2> /dev/null" EXIT; $(BIN)/dagster dev -p $(PORT)

view: venv ## neuroglancer and reports of everything in the store, on port 9999
	$(BIN)/seg view

browser: ## Chromium for the browser tests, where there is none
	@command -v chromium chromium-browser google-chrome > /dev/null \
	|| { [ "$$(id -u)" = 0 ] && apt-get update && apt-get install -y --no-install-recommends chromium; } \
	|| { echo "no Chromium on the PATH: sudo apt-get install -y chromium" >&2; exit 1; }

test: venv browser lint ## all tests that need nothing beyond the project
	$(BIN)/python -m pytest $(SIDE_BY_SIDE) -m "not data and not k8s and not gpu and not timed"
	$(BIN)/python -m pytest -n 2 --dist load -m timed

test-fast: venv ## those that take seconds
	$(BIN)/python -m pytest $(SIDE_BY_SIDE) -m "not data and not k8s and not gpu and not slow and not timed"
	$(BIN)/python -m pytest -m "timed and not slow"

test-data: venv ## the tests on the real volumes in SEG_TEST_DATA
	$(BIN)/python -m pytest -m data

test-gpu: ## those on a GPU, by the PYTHON that holds its torch, as in PYTHON=python3
	$(PYTHON) -m pytest -m gpu tests/test_gpu.py

test-k8s: venv ## the tests on Kubernetes: the cluster of KUBECONFIG, or what SEG_K8S_CLUSTER brings up
	$(BIN)/python -m pytest -m k8s

test-k8s-kills: venv ## N (20) random kills there while runs go the whole path, by SEED (1)
	N=$(or $(N),20) SEED=$(or $(SEED),1) $(BIN)/python -m pytest -s tests/k8s/kill_many.py

examples: venv ## FIB-25 and VNC in full, with their scores (about an hour)
	examples/run.sh $(SEG_TEST_DATA)

bench: venv browser ## every hot path against its bare limit and the usual way, as ratios
	$(BIN)/python bench/bench.py
	PYTHONPATH=tests $(BIN)/python bench/at_size.py

bench-at-size: venv browser ## 10,000 blocks x 5 runs on a Postgres of its own: UI, backfill, passing over
	PYTHONPATH=tests $(BIN)/python bench/at_size.py

bench-quick: venv ## the first part, smaller
	$(BIN)/python bench/bench.py --quick

contexts: venv ## docs/contexts.md: what the same work costs where; OPTIONS=--no-pods: no cluster
	PYTHONPATH=bench:tests:tests/k8s $(BIN)/python -m contexts $(OPTIONS)

lint: venv ## ruff and mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: venv ## mend what ruff can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

constraints: ## pin what a fresh install of pyproject.toml gives (torch without its local version)
	rm -rf .local/pin && $(PYTHON) -m venv .local/pin
	.local/pin/bin/pip install --disable-pip-version-check -q torch==2.13.0
	.local/pin/bin/pip install --disable-pip-version-check -q '.[dev]' hatchling editables
	.local/pin/bin/pip freeze --exclude seg | grep -v '@ file' | sed 's/+cpu$$//' > constraints.txt
	rm -rf .local/pin

clean: ## remove the environment and everything made
	rm -rf .venv .local
