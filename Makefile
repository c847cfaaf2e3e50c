# Everything works from a fresh clone with Python 3.11 or newer, git and make.

PYTHON ?= $(shell command -v python3.11 || command -v python3)
BIN := .venv/bin
READY := .venv/.ready

INTEL_PYTHON ?= $(shell command -v python3.11)
INTEL := .cache/intel-tensorflow
INTEL_READY := $(INTEL)/.ready

.PHONY: help demo test coverage test-postgres test-intel check fmt bench build lock clean

help: ## Show this help
	@grep -E '^[a-z%-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 20

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[postgres,service,dev]'
	@touch $(READY)

demo: $(READY) ## Tune a reference workload in three to four minutes
	$(BIN)/autotune run --workload image_input --budget 3m

# five at a time on two cores, as many tests mostly wait;
# BLAS on one thread: the matrices are small, and its threads would wait for each other
PYTEST := OPENBLAS_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses 5 --dist loadgroup

# a process compiles what has no bytecode yet, and tests start hundreds of them
.PHONY: bytecode
bytecode: $(READY)
	@$(BIN)/python -m compileall -q autotuner tests

test: bytecode ## Run all tests; those that need PostgreSQL or Chromium skip aloud without them
	$(PYTEST) --durations 20

coverage: bytecode ## Run all tests, and print what they cover, also in the processes that they start
	rm -rf .coverage
	$(PYTEST) --cov --cov-config=tests/coverage.toml --cov-report=term

test-postgres: $(READY) ## Run the tests on a real PostgreSQL server, which they start on loopback
	$(BIN)/python -m pytest -m postgres

$(INTEL_READY): Makefile
	$(INTEL_PYTHON) -m venv $(INTEL)
	$(INTEL)/bin/pip install --quiet --disable-pip-version-check intel-tensorflow==2.14.0 'numpy<2'
	@touch $(INTEL_READY)

# with another Python there is no such wheel: said aloud, and no failure
ifneq ($(INTEL_PYTHON),)
test-intel: $(READY) $(INTEL_READY) ## Run the end-to-end tests on Intel's build of TensorFlow
	AUTOTUNE_TEST_INTEL=$(CURDIR)/$(INTEL)/bin/python \
	  AUTOTUNE_TEST_PYTHONS=$(CURDIR)/$(INTEL)/bin/python \
	  $(BIN)/python -m pytest --numprocesses 2 --dist worksteal tests/end_to_end/test_intel.py \
	  tests/end_to_end/test_main_job.py::test_other_interpreters
else
test-intel:
	@echo "SKIPPED: test-intel needs Python 3.11 (INTEL_PYTHON=PATH), for which intel-tensorflow has wheels"
endif

check: $(READY) ## Lint, format check, types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

fmt: $(READY) ## Format the code
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(READY) ## Measure what the tool itself costs, its database and pages too
	$(BIN)/python -m benchmarks.own_cost
	$(BIN)/python -m benchmarks.storage_cost

bench-search: OPTIONS ?= --output docs
bench-%: $(READY) ## duels, calibration, search, warm, fleet, service, against-by-hand: see benchmarks/NAME.py
	OPENBLAS_NUM_THREADS=1 $(BIN)/python -m benchmarks.$(subst -,_,$*) $(OPTIONS)

build: $(READY) ## Build the wheel and try it in a clean environment outside the tree
	rm -rf dist
	$(BIN)/python -m build --wheel --outdir dist .
	sh .ci/try-wheel $(PYTHON)

lock: $(READY) ## Renew constraints.txt
	$(BIN)/pip-compile --quiet --all-extras --strip-extras --upgrade --allow-unsafe --no-header \
	  --no-emit-index-url --no-emit-find-links --no-annotate --output-file constraints.txt pyproject.toml

clean: ## Remove the environment and what was built; studies in .autotune stay
	rm -rf .venv .cache build dist .mypy_cache .ruff_cache .pytest_cache .coverage
