# make repro: the environment, then the whole pipeline. make test: the environment, then the tests.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
ENVIRONMENT := .venv
BIN := $(ENVIRONMENT)/bin
READY := $(ENVIRONMENT)/.ready

.PHONY: environment repro test lint deps screenshot

environment: $(READY)

$(READY): requirements.txt
	$(PYTHON) -m venv $(ENVIRONMENT)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --requirement requirements.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	touch $@

repro: $(READY)
	. $(BIN)/activate && dvc repro

test: $(READY)
	$(BIN)/python -m pytest

lint: $(READY)
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

# The code that each stage depends on, into dvc.yaml.
deps: $(READY)
	$(BIN)/python -m wise.dependencies

# The picture of the report in the README, after `make repro` of the generated scenes.
screenshot: $(READY)
	$(BIN)/python -m tests.support.screenshot
