# make quickstart   the main job on real data
# make test         the tests;  make lint: style and types;  make lock: pin the dependencies anew
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# The environment here, whatever other one the caller has activated.
UV := VIRTUAL_ENV=$(CURDIR)/$(VENV) $(BIN)/uv pip
UV_VERSION := 0.13.9

.PHONY: quickstart test lint format lock bench-graph bench-linking bench-embeddings bench-fusion bench-methods clean

quickstart: $(VENV)/.run
	$(BIN)/medgraft quickstart

test: $(VENV)/.dev
	MEDGRAFT_SMALL=1 $(BIN)/python -m pytest --nbmake tests notebooks

lint: $(VENV)/.dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

bench-embeddings: $(VENV)/.dev
	$(BIN)/python -m tests.benchmarks.embeddings

bench-graph: $(VENV)/.dev
	$(BIN)/python -m tests.benchmarks.graph

bench-fusion: $(VENV)/.dev
	$(BIN)/python -m tests.benchmarks.fusion

bench-methods: $(VENV)/.dev
	$(BIN)/python -m tests.benchmarks.methods

bench-linking: $(VENV)/.dev
	$(BIN)/python -m tests.benchmarks.linking

format: $(VENV)/.dev
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

$(BIN)/uv:
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv==$(UV_VERSION)

# The lock holds exact versions with hashes; the project itself is installed in place, without fetching anything more.
$(VENV)/.run: requirements.lock pyproject.toml | $(BIN)/uv
	$(UV) install --compile-bytecode --require-hashes --requirements requirements.lock
	$(UV) install --no-deps --no-build-isolation --editable .
	touch $@

$(VENV)/.dev: requirements-dev.lock $(VENV)/.run
	$(UV) install --compile-bytecode --require-hashes --requirements requirements-dev.lock
	touch $@

lock: | $(BIN)/uv
	$(UV) compile --quiet --universal --generate-hashes --no-annotate --no-header --no-emit-index-url \
	  --extra quickstart --extra notebooks --extra lora --extra onnx --output-file requirements.lock pyproject.toml
	$(UV) compile --quiet --universal --generate-hashes --no-annotate --no-header --no-emit-index-url \
	  --extra quickstart --extra notebooks --extra lora --extra onnx --extra dev --constraints requirements.lock \
	  --output-file requirements-dev.lock pyproject.toml

clean:
	rm -rf $(VENV) build *.egg-info .pytest_cache .mypy_cache .ruff_cache
