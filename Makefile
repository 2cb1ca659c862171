# Needs Python 3.11 or newer, pip and make; everything else is installed into .venv.

PYTHON ?= $(shell for p in python3.11 python3; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
VENV := .venv
DEMO_VENV := .venv-demo
BENCH_VENV := .venv-bench
BIN := $(VENV)/bin
PIP_INSTALL := -m pip install -qq --disable-pip-version-check
COVERAGE_GATE := 85
SEEDS ?= 1000
FIRST ?= 1
SECONDS ?= 60
SEED ?= 0

# Where this is set, each of the hundreds of processes that the tests start compiles the library and
# what it imports anew, and pytest rewrites Hypothesis anew for each module of the cores.
export PYTHONDONTWRITEBYTECODE :=

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help env test lint types core docs unit simulate chaos fuzz format demo bench speed clean
.PHONY: check-mypy check-basedpyright check-docs

help: ## list these targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

env: $(VENV)/.installed ## set up .venv with the pinned tools and the library itself

# Nothing may be printed after pytest: its last line is the result.
test: $(VENV)/.installed ## check everything: format, lint, types, core coverage, docs, tests
	@echo "== ruff format";   $(BIN)/ruff format --check --quiet . || \
		{ echo "run: make format"; exit 1; }
	@echo "== ruff check";    $(BIN)/ruff check --quiet .
	@$(MAKE) --no-print-directory -j2 check-mypy check-basedpyright check-docs
	@echo "== core coverage"; $(BIN)/python tools/check_core_coverage.py
	@echo "== pytest";        $(PYTEST)

# These use one core each, so two run at a time; what each says is shown when it has ended. The check
# of core coverage runs two processes itself, and pytest runs alone: its tests look at the clock.
check-mypy: ; @$(call QUIET,mypy,$(BIN)/mypy --no-error-summary)
check-basedpyright: ; @$(call QUIET,basedpyright,$(BIN)/basedpyright --pythonpath $(BIN)/python)
check-docs: ; @$(call QUIET,docs,$(MKDOCS))

# Run $(2); print the title $(1), and what was said if it fails.
QUIET = $(2) >$(VENV)/.$(1) 2>&1 && echo "== $(1)" || \
	{ echo "== $(1)"; cat $(VENV)/.$(1); exit 1; }

MKDOCS = NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet --site-dir build/site
# Two at a time: a test waits for the processes that it starts half of its time.
PYTEST = rm -f .coverage .coverage.*; $(BIN)/python -m pytest --numprocesses=2 \
	--dist=loadgroup --no-loadscope-reorder \
	--cov --cov-report=term --cov-fail-under=$(COVERAGE_GATE) $(ARGS)

lint: $(VENV)/.installed ## ruff: format and lint
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .

types: $(VENV)/.installed ## mypy and pyright, both strict
	@$(BIN)/mypy
	@$(BIN)/basedpyright --pythonpath $(BIN)/python

core: $(VENV)/.installed ## each module of the two cores against its own tests: 100 %
	@$(BIN)/python tools/check_core_coverage.py

docs: $(VENV)/.installed ## build the documentation into build/site
	@$(MKDOCS)

unit: $(VENV)/.installed ## pytest alone, without coverage; options in ARGS="-k name -x"
	@$(BIN)/python -m pytest $(ARGS)

simulate: $(VENV)/.installed ## the core under random schedules; SEEDS=1000 FIRST=1, options in ARGS
	@$(BIN)/python tools/simulate.py --seeds $(SEEDS) --first $(FIRST) $(ARGS)

chaos: $(VENV)/.installed ## real processes under kills, stops, forks; SECONDS=60 SEED=7, options in ARGS
	@$(BIN)/python tools/chaos.py --seconds $(SECONDS) --seed $(SEED) $(ARGS)

fuzz: $(VENV)/.installed ## what a hostile peer may say; ARGS="--target brokers --seconds 60 --seed 7"
	@$(BIN)/python tools/fuzz.py $(ARGS)

format: $(VENV)/.installed ## format the code and fix what ruff can fix
	@$(BIN)/ruff check --fix --quiet --exit-zero .
	@$(BIN)/ruff format .

demo: $(DEMO_VENV)/.installed ## see it work: hosts die, others take over
	@$(DEMO_VENV)/bin/open-channel demo

bench: $(BENCH_VENV)/.installed ## run the benchmarks, peers and all; options in ARGS
	@$(BENCH_VENV)/bin/python benchmarks/run.py $(ARGS)

speed: $(BENCH_VENV)/.installed ## measure against the peers, and draw docs/speed.md; ARGS="stream --rounds 5"
	@$(BENCH_VENV)/bin/python benchmarks/speed.py $(ARGS)
	@$(BENCH_VENV)/bin/python benchmarks/draw.py

clean: ## remove what these targets have made
	rm -rf $(VENV) $(DEMO_VENV) $(BENCH_VENV) build .coverage .coverage.* .hypothesis
	rm -rf .mypy_cache .pytest_cache .ruff_cache

# The environment is made anew when the pins change, and the library is installed again (editable:
# changes of its code need nothing) when its metadata do.
$(VENV)/.pins: requirements/dev.txt
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer is needed: make PYTHON=/path/to/it"; exit 1; }
	@echo "== environment: $(VENV), $$($(PYTHON) --version)"
	@rm -rf $(VENV)
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python $(PIP_INSTALL) -r requirements/dev.txt
	@touch $@

$(VENV)/.installed: pyproject.toml $(VENV)/.pins
	@$(BIN)/python $(PIP_INSTALL) --no-deps --no-build-isolation --editable .
	@touch $@

$(DEMO_VENV)/.installed: pyproject.toml
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer is needed: make PYTHON=/path/to/it"; exit 1; }
	@echo "== environment: $(DEMO_VENV), $$($(PYTHON) --version)"
	@rm -rf $(DEMO_VENV)
	@$(PYTHON) -m venv $(DEMO_VENV)
	@$(DEMO_VENV)/bin/python $(PIP_INSTALL) --editable '.[cli]'
	@touch $@

$(BENCH_VENV)/.pins: requirements/bench.txt
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer is needed: make PYTHON=/path/to/it"; exit 1; }
	@echo "== environment: $(BENCH_VENV), $$($(PYTHON) --version)"
	@rm -rf $(BENCH_VENV)
	@$(PYTHON) -m venv $(BENCH_VENV)
	@$(BENCH_VENV)/bin/python $(PIP_INSTALL) -r requirements/bench.txt
	@touch $@

$(BENCH_VENV)/.installed: pyproject.toml $(BENCH_VENV)/.pins
	@$(BENCH_VENV)/bin/python $(PIP_INSTALL) --no-deps --no-build-isolation --editable .
	@touch $@
