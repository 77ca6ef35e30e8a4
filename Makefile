# Commands for a fresh clone. Needs only Python 3.11 or later and make.
.DEFAULT_GOAL := help
SHELL := /bin/bash
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
CONSTRAINTS := deploy/constraints.txt
# Tests start many programs, which would compile every module anew.
unexport PYTHONDONTWRITEBYTECODE
# Also on two processors: fault tests mostly wait. More slow each other down.
WORKERS := 4

.PHONY: help demo serve test lint types kernels pytest mutations bench golden options stubs release-proto locks test-containers clean

help: ## Show this help.
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 18

$(VENV)/users: pyproject.toml $(CONSTRAINTS)
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint $(CONSTRAINTS) --editable '.[client,examples,server]'
	@touch $@

$(VENV)/developers: $(VENV)/users
	$(BIN)/python -m pip install --quiet --constraint $(CONSTRAINTS) --editable '.[dev]'
	@touch $@

demo: $(VENV)/users ## Serve the embedded graph, stream negatives, check them.
	$(BIN)/python examples/demo.py

serve: $(VENV)/users ## Serve the embedded graph at 127.0.0.1:7733 until Ctrl-C.
	$(BIN)/negserve-server serve

test: ## Run lint, types and all tests.
	@$(MAKE) --no-print-directory lint
	@$(MAKE) --no-print-directory --jobs 2 --output-sync types kernels
	@$(MAKE) --no-print-directory pytest

lint: $(VENV)/developers
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/developers
	$(BIN)/mypy client/negserve server/negserve_server proto examples benchmarks deploy

pytest: $(VENV)/developers
	$(BIN)/python -m pytest --numprocesses $(WORKERS) --dist loadfile --no-loadscope-reorder

# Once, or else each process of the tests compiles them.
kernels: $(VENV)/developers
	$(BIN)/python -c "from negserve_server.warm_up import warm_up; warm_up({})"

mutations: $(VENV)/developers ## Plant realistic bugs, each alone: the tests must catch each.
	$(BIN)/python -m tests.mutations

bench: $(VENV)/developers ## Measure the published numbers, write their tables and charts.
	$(BIN)/python -m benchmarks.run_all

golden: $(VENV)/developers ## Record the golden files of proto/testdata again.
	NEGSERVE_WRITE_GOLDEN=1 $(BIN)/python -m pytest tests/proto

options: $(VENV)/developers ## Write the tables of options, metrics and log fields in docs/operations.md again.
	NEGSERVE_WRITE_DOCUMENTS=1 $(BIN)/python -m pytest tests/documents/test_operations_document.py -k table

stubs: $(VENV)/developers ## Generate the stubs from proto/ again.
	$(BIN)/python proto/generate.py

release-proto: $(VENV)/developers ## Pack proto and golden files into dist/, for authors of clients.
	$(BIN)/python proto/release.py

LOCK := $(BIN)/uv pip compile --quiet --constraint $(CONSTRAINTS) --generate-hashes --no-header --no-annotate \
  --python-version 3.13 --python-platform x86_64-manylinux_2_28

locks: $(VENV)/developers ## Pin what the images install, by hashes.
	$(BIN)/python -m pip install --quiet uv
	$(LOCK) pyproject.toml --extra server --output-file deploy/locks/server.txt >/dev/null
	$(LOCK) pyproject.toml --output-file deploy/locks/client.txt >/dev/null
	$(LOCK) deploy/locks/build.in --output-file deploy/locks/build.txt >/dev/null

# An engine that hangs answers no command, and none of Docker's has a time limit.
CONTAINERS_LIMIT := 60m

test-containers: ## Build the images and check them; needs a Docker engine.
	timeout --verbose --foreground --kill-after 2m $(CONTAINERS_LIMIT) deploy/test_containers.sh

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis
	rm -rf examples/node/node_modules examples/node/build examples/node/src/generated
