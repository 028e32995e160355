# make reproduce   set up, then train Tables 3 and 4 with one seed and take a first look at the other tables
# make results     write results/, its report.html and what README and docs quote anew, from the runs in results/runs.csv
# make test        set up, then run the tests
# make check       lint, format and types
# make bench       speed and memory, each against a named peer
# make clean       remove the environment and caches; runs/ and results/ stay

PYTHON ?= python3
BIN := .venv/bin
SCALE ?= cpu
# A first run trains for itself: results/runs.csv, which is committed and counts as done, is left alone.
RESULTS ?= runs/results
# Cells whose runs take longer than all others together; `make reproduce SKIP=` does them too.
SKIP ?= PubMed/DNAConv
# Data: DFA_BENCH_DATA, else a folder shared/data beside this checkout, if there is one.
DFA_BENCH_DATA ?= $(abspath $(wildcard ../shared/data))
export DFA_BENCH_DATA

.PHONY: reproduce results test check bench clean

reproduce: .venv/installed
	$(BIN)/dfa-bench reproduce table3 table4 first seeds=1 scale=$(SCALE) results=$(RESULTS) skip=$(SKIP)

results: .venv/installed
	$(BIN)/dfa-bench results
	$(BIN)/dfa-bench report

test: .venv/installed
	$(BIN)/pytest

check: .venv/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: .venv/installed
	for file in benchmarks/*.py; do $(BIN)/python $$file || exit 1; done

clean:
	rm -rf .venv .pytest_cache .mypy_cache .ruff_cache .hypothesis build dist *.egg-info

.venv/installed: pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --editable '.[dev]'
	touch $@
