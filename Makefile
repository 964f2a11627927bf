# Every target works from a fresh clone: the first one to run creates .venv and installs what it needs.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
PIP    := $(BIN)/pip --disable-pip-version-check

# qtorch compiles its kernels when a test first imports it, with the ninja that was installed beside it.
export PATH := $(CURDIR)/$(BIN):$(PATH)

# Two pytest workers with one thread each use two cores; tests that are about threads set their own number.
WORKERS ?= 2
# Idle OpenMP threads sleep: spinning ones take the cores from the other worker.
PYTEST  := OMP_NUM_THREADS=1 OMP_WAIT_POLICY=PASSIVE $(BIN)/pytest -n $(WORKERS) --dist worksteal

.PHONY: help install install-dev format lint typecheck test test-all mutate bench demo docs gpu clean

help:
	@echo "make demo       install, then compare fp32, INT8 and INT4 training on real images (about two minutes)"
	@echo "make test       all tests that take seconds"
	@echo "make test-all   and those that take minutes"
	@echo "make mutate     breaks the arithmetic line by line and sees the tests fail (about half an hour)"
	@echo "make lint       style and types;  make format rewrites the style"
	@echo "make docs       builds the documentation into site/"
	@echo "make bench      speed next to other implementations"
	@echo "make gpu        everything that needs a CUDA device; resumable, writes experiments/records;"
	@echo "                ARGS='--seconds 1500' ends it after so long, ARGS=--list shows what there is"

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

# The environment's own stamp files: an interrupted install is run again.
$(VENV)/.installed: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(PIP) install --quiet --constraint constraints.txt --editable .
	@touch $@

$(VENV)/.installed-dev: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(PIP) install --quiet --constraint constraints.txt --editable '.[dev,gpu,oracle,plot,test]'
	@touch $(VENV)/.installed $@

$(VENV)/.installed-docs: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(PIP) install --quiet --constraint constraints.txt --editable '.[docs]'
	@touch $(VENV)/.installed $@

# Other people's implementations, which only the benchmarks run. One that can't be installed is a row that says so.
$(VENV)/.installed-bench: pyproject.toml constraints.txt $(VENV)/.installed-dev
	$(PIP) install --quiet --constraint constraints.txt --editable '.[bench]' && touch $@ \
		|| echo "Not all peers could be installed: the table will say which are missing."

install: $(VENV)/.installed

install-dev: $(VENV)/.installed-dev

# Its pages' examples are run by tests/test_docs.py.
docs: $(VENV)/.installed-docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

demo: install
	$(BIN)/lowbit-sim compare

format: install-dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

lint: install-dev typecheck
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

typecheck: install-dev
	$(BIN)/pyright

test: install-dev
	$(PYTEST) -m "not slow and not gpu"

test-all: install-dev
	$(PYTEST) -m "not gpu"

# In a copy of the repository; --only WORDS runs some of them.
mutate: install-dev
	$(BIN)/python tools/mutate.py

# In one process, so that what is compared runs side by side; on an otherwise idle machine.
bench: $(VENV)/.installed-bench
	$(BIN)/python -m pytest benchmarks -q --benchmark-only --benchmark-quiet \
		--benchmark-json=.benchmarks/latest.json; status=$$?; \
	$(BIN)/python -m benchmarks.summarize .benchmarks/latest.json experiments/records/benchmark_cpu.json \
		--update docs/performance.md && exit $$status

# GPU machines bring their own torch, so nothing is installed: any Python that can import the dependencies will do.
gpu:
	$(PYTHON) -m benchmarks.gpu $(ARGS)

clean:
	rm -rf $(VENV) build site *.egg-info .pytest_cache .ruff_cache .hypothesis .benchmarks
	find . -name __pycache__ -prune -exec rm -rf {} +
