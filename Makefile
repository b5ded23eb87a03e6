# One command each; `make test` is all that a change needs. Everything runs in .venv, from the pins in
# constraints.txt. pip's own settings (index, wheel house, proxy) are left as they are.

VENV  := .venv
BIN   := $(VENV)/bin
STAMP := $(VENV)/.installed
WORKERS ?= 2

# The first Python that is new enough. Set PYTHON to choose another: make setup PYTHON=/opt/python3.12
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11 python; do \
	if "$$p" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then echo "$$p"; break; fi; done)

TODAY := $(shell date +%F)

# One thread per test worker: more would only wait for each other.
SINGLE := OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1

.PHONY: setup check test demo bench docs soak clean

setup: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	@if [ -z "$(PYTHON)" ]; then echo "simgan needs Python 3.11 or newer and found none;" \
		"install one, or name it: make setup PYTHON=/path/to/python3.11" >&2; exit 1; fi
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "$(PYTHON) is not Python 3.11" \
		"or newer; name another: make setup PYTHON=/path/to/python3.11" >&2; exit 1; }
	@test -x $(BIN)/python || "$(PYTHON)" -m venv $(VENV)
	$(BIN)/python -m pip install --quiet -c constraints.txt hatchling editables
	$(BIN)/python -m pip install --quiet --no-build-isolation -c constraints.txt -e '.[dev]'
	@touch $@

check: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check --quiet .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

test: setup
	$(SINGLE) $(BIN)/pytest -n $(WORKERS) -m "not soak" --cov --cov-report=term

demo: setup
	$(BIN)/simgan demo

bench: setup
	$(BIN)/python benchmarks/steps.py --compiled --out benchmarks/results/steps/$(TODAY).json
	$(BIN)/python benchmarks/refine_folder.py --out benchmarks/results/refine_folder/$(TODAY).json
	$(BIN)/python benchmarks/growth.py --out benchmarks/results/growth/$(TODAY).json

docs: setup
	$(BIN)/python docs/generate.py
	$(BIN)/python docs/results.py
	$(BIN)/python docs/performance.py
	$(BIN)/python docs/large.py
	$(SINGLE) $(BIN)/pytest tests/test_docs.py tests/test_examples.py

soak: setup
	$(BIN)/pytest -m soak --timeout 3600 || [ $$? -eq 5 ]  # 5: there is none

clean:
	rm -rf $(VENV) .coverage .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis dist
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
