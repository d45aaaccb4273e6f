# make study    set up .venv, then run the default study
# make test     set up .venv, then run all that must pass: lint, types, tests and notebooks
# make test-lowest  run tests with the lowest versions that pyproject.toml allows, in .venv-lowest
# make test-newest  run all tests with the newest versions that pip finds, in .venv-newest
# make test-trackers  set up .venv-trackers with MLflow and W&B, then run the tests of trackers
# make dist     build the source distribution and the wheel in dist/, and check what an index would show
# make docs     set up .venv-docs, then build the site in build/site and check its links
# make counts   set up .venv-peers with other libraries, then print all exact counts
# make parity   set up .venv-peers, then print how far our logits and gradients are from those libraries'
# make speed    set up .venv-peers, then time training of Xception and Inception V3, timm's and ours
PYTHON ?= python3
VENV := .venv
CONSTRAINTS := constraints.txt
EXTRAS := dev
TESTS :=
# Without the tests of documents and of the distribution.
LOWEST := $(filter-out %_docs.py %_readme.py %_distribution.py,$(wildcard tests/test_*.py)) \
	$(patsubst %,tests/%,analysis costs data layers networks report runs study training)
BIN := $(VENV)/bin
READY := $(VENV)/.ready
PEERS := .venv-peers
PEERS_READY := $(PEERS)/.ready

.PHONY: study test pytest test-lowest test-newest test-trackers dist docs site counts parity speed lint format clean

study: $(READY)
	$(BIN)/python -m spectrum.study --segments 1,4,32,C

test: lint pytest
	$(BIN)/python -m pytest --nbmake notebooks --numprocesses auto

pytest: $(READY)
	$(BIN)/python -m pytest --numprocesses auto --dist worksteal $(TESTS)

# Old libraries warn of what newer ones have, which is no error of ours.
test-lowest:
	$(MAKE) pytest VENV=.venv-lowest CONSTRAINTS=constraints-lowest.txt TESTS="-W default $(LOWEST)"

test-newest:
	$(MAKE) pytest VENV=.venv-newest CONSTRAINTS=/dev/null

test-trackers:
	$(MAKE) pytest VENV=.venv-trackers EXTRAS=dev,mlflow,wandb TESTS=tests/tracking

docs:
	$(MAKE) site VENV=.venv-docs EXTRAS=docs

site: $(READY)
	$(BIN)/python docs/stage.py build/pages
	$(BIN)/zensical build --clean --strict

dist: $(READY)
	$(BIN)/python -m pip install --quiet --constraint $(CONSTRAINTS) build twine
	rm -rf dist
	$(BIN)/python -m build --no-isolation
	$(BIN)/python -m twine check --strict dist/*

counts: $(PEERS_READY)
	@$(PEERS)/bin/python benchmarks/exact_counts.py
	@echo
	@$(PEERS)/bin/python benchmarks/counters.py

parity: $(PEERS_READY)
	@$(PEERS)/bin/python benchmarks/parity.py

# The first network is timm's with its defaults. All others, timm's too, use what is fastest here.
speed: $(PEERS_READY)
	PYTHONPATH=benchmarks $(PEERS)/bin/python -m spectrum.bench network peers:timm_xception@float32@contiguous \
		peers:timm_xception paper inception_v3 peers:timm_inception_v3 --precision bfloat16 --training --seconds 120

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(READY)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# Deletes what the set-up and the tools made. Results in outputs/ stay.
clean:
	rm -rf .venv .venv-* build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# torch is installed first and alone, so that pip takes a CPU build of the pinned version if it finds one.
$(READY): pyproject.toml $(CONSTRAINTS)
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "spectrum needs Python 3.11 or newer")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint $(CONSTRAINTS) torch
	$(BIN)/python -m pip install --quiet --constraint $(CONSTRAINTS) --editable '.[$(EXTRAS)]'
	touch $(READY)

$(PEERS_READY): pyproject.toml constraints.txt benchmarks/requirements.txt
	$(PYTHON) -m venv $(PEERS)
	$(PEERS)/bin/python -m pip install --quiet --constraint constraints.txt torch
	$(PEERS)/bin/python -m pip install --quiet --constraint constraints.txt --editable . --requirement benchmarks/requirements.txt
	touch $(PEERS_READY)
