# make study    set up, then run the default study
# make test     set up, then everything that must pass: lint, types, tests, the notebooks
# make counts   set up Keras, torchvision and timm beside, then print everybody's exact counts
# make parity   likewise, then print how far our logits are from theirs
# make speed    likewise, then train timm's Xception and Inception V3 beside ours, and time them
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
PEERS := .venv-peers
PEERS_READY := $(PEERS)/.ready

.PHONY: study test counts parity speed lint format clean

study: $(READY)
	$(BIN)/python -m spectrum.study --segments 1,4,32,C

test: lint
	$(BIN)/python -m pytest --numprocesses auto --dist worksteal
	$(BIN)/python -m pytest --nbmake notebooks --numprocesses auto

counts: $(PEERS_READY)
	@$(PEERS)/bin/python benchmarks/exact_counts.py

parity: $(PEERS_READY)
	@$(PEERS)/bin/python benchmarks/parity.py

# Of timm's, the first as it comes; all others as they are fastest here.
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

# What the set-up and the tools made; results in outputs/ stay.
clean:
	rm -rf $(VENV) $(PEERS) build *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# torch goes first and alone, so that a CPU build of the pinned version is taken where one is offered.
$(READY): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "spectrum needs Python 3.11 or newer")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt torch
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $(READY)

$(PEERS_READY): pyproject.toml constraints.txt benchmarks/requirements.txt
	$(PYTHON) -m venv $(PEERS)
	$(PEERS)/bin/python -m pip install --quiet --constraint constraints.txt torch
	$(PEERS)/bin/python -m pip install --quiet --constraint constraints.txt --editable . --requirement benchmarks/requirements.txt
	touch $(PEERS_READY)
