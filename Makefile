# All targets use a virtual environment in .venv, created on demand; only Python 3.11+ is needed.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
DEV_STAMP := $(VENV)/.installed-dev
DOCS_STAMP := $(VENV)/.installed-docs
# Python compiles what it imports; compiling every file of the packages takes a minute more.
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile

.PHONY: install demo test fuzz bench gpu-report docs lint types format clean

install: $(DEV_STAMP)

$(STAMP): requirements.txt
	$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed, this is " + sys.version.split()[0] + "; give another one with make PYTHON=...") if sys.version_info < (3, 11) else None'
	$(PYTHON) -m venv $(VENV)
	$(PIP) -r requirements.txt
	touch $@

$(DEV_STAMP): $(STAMP) requirements-dev.txt
	$(PIP) -r requirements-dev.txt
	touch $@

demo: $(STAMP)
	$(BIN)/python tools/demo.py

# One process per core, each with one thread; tests of a file run in the same process.
test: $(DEV_STAMP)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --dist loadfile --no-loadscope-reorder

fuzz: $(DEV_STAMP)
	CMDA_FUZZ_INPUTS=$${CMDA_FUZZ_INPUTS:-10000} $(BIN)/python -m pytest tests/reliability/test_fuzz.py

bench: $(STAMP)
	$(BIN)/python benchmarks/data_speed.py
	$(BIN)/python benchmarks/flops.py
	$(BIN)/python benchmarks/step_speed.py --checkpointing
	$(BIN)/python benchmarks/roofline.py --batch 1

gpu-report: $(DEV_STAMP)
	$(BIN)/python benchmarks/gpu_report.py

docs: $(DOCS_STAMP)
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet
	@echo "open site/index.html, or, to search it: $(BIN)/python -m http.server --directory site"

$(DOCS_STAMP): $(STAMP) requirements-docs.txt
	$(PIP) -r requirements-docs.txt
	touch $@

lint: $(DEV_STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(DEV_STAMP)
	$(BIN)/mypy

format: $(DEV_STAMP)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache site
