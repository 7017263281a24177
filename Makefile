# make demo   train, test and enhance on the bundled photographs (CPU, a few minutes)
# make test   the whole test suite
# make lint   ruff and yapf
# Each makes .venv when it is missing and installs what it needs.

VENV ?= .venv
PYTHON ?= python3
BIN := $(VENV)/bin

.PHONY: demo test lint format schema clean

demo: $(VENV)/.installed
	$(BIN)/python scripts/demo.py

# one thread a worker: two workers on two cores
test: $(VENV)/.installed-dev
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist worksteal

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/yapf --diff --recursive --parallel basicsr Enhancement Ablation_Model benchmarks scripts tests setup.py

format: $(VENV)/.installed-dev
	$(BIN)/ruff check --fix .
	$(BIN)/yapf --in-place --recursive --parallel basicsr Enhancement Ablation_Model benchmarks scripts tests setup.py

schema: $(VENV)/.installed
	$(BIN)/basicsr schema

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: $(VENV)/bin/python pyproject.toml setup.py
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e .
	touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[dev]'
	touch $@

clean:
	rm -rf $(VENV) build *.egg-info
