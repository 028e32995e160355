# make reproduce   set up, then train Tables 3 and 4 with one seed and take a first look at the other tables
# make results     rewrite results/, its report.html and what docs quote of it, from the runs in results/runs.csv
# make test        set up, then run the tests on all cores
# make test-oldest the same tests with the lowest versions that pyproject.toml allows (Python 3.11 or later)
# make test-engines real SLURM and Ray clusters on this machine: as root, with Debian's slurm-wlm and munge
# make torture     kill and spoil runs at random moments, for about half an hour
# make check       lint, format, types, and known vulnerabilities of the tested versions where their list can be reached
# make docs        build the documentation into build/site; `make serve` shows it at http://127.0.0.1:8000
# make dist        build and check the wheel and the source distribution
# make bench       speed and memory, each against a named peer
# make bench-gpu   a training step of every model at the paper's size, and the hours of all tables; needs a GPU and no data
# make clean       remove the environment and caches; runs/ and results/ stay

PYTHON ?= python3
BIN := .venv/bin
SCALE ?= cpu
# A first run trains for itself: results/runs.csv, which is committed and counts as done, is left alone.
RESULTS ?= runs/results
# Cells whose runs take nearly as long as all others together; `make reproduce SKIP=` does them too.
SKIP ?= PubMed/DNAConv
# Data: DFA_BENCH_DATA, else a folder shared/data beside this checkout, if there is one.
DFA_BENCH_DATA ?= $(abspath $(wildcard ../shared/data))
export DFA_BENCH_DATA
# One test runs on each core, so PyTorch must not start as many threads in each. `worksteal` hands out runs of
# neighbouring tests, which share what a module prepares once.
PYTEST := pytest -n auto --dist worksteal
# PyTorch of `make test-oldest`, 2.6.0 for instance; empty: the one of constraints.txt.
TORCH ?=

.PHONY: reproduce results test test-engines torture test-oldest check docs serve dist bench bench-gpu clean

reproduce: .venv/installed
	$(BIN)/dfa-bench reproduce table3 table4 first scale=$(SCALE) --seeds 1 --results $(RESULTS) --skip='$(SKIP)'

results: .venv/installed
	$(BIN)/dfa-bench results
	$(BIN)/dfa-bench report

test: .venv/installed
	OMP_NUM_THREADS=1 $(BIN)/$(PYTEST) -m 'not engines'

test-engines: .venv/installed
	$(BIN)/pip install --quiet --constraint constraints.txt 'ray; python_version < "3.14"'
	OMP_NUM_THREADS=1 $(BIN)/pytest -m engines

torture: .venv/installed
	OMP_NUM_THREADS=1 $(BIN)/python .ci/torture.py build/torture

# Without a wheel for a lowest version, pip takes a newer one and .ci/oldest.py says so.
test-oldest:
	$(PYTHON) -m venv --clear build/oldest
	build/oldest/bin/python .ci/oldest.py $(TORCH) >build/oldest/constraints.txt
	build/oldest/bin/pip install --quiet --constraint build/oldest/constraints.txt --editable '.[test]'
	OMP_NUM_THREADS=1 build/oldest/bin/$(PYTEST) -m 'not engines'

check: .venv/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python .ci/audit.py

docs: .venv/installed
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

serve: .venv/installed
	$(BIN)/mkdocs serve

dist: .venv/installed
	rm -rf dist
	$(BIN)/python -m build --no-isolation
	$(BIN)/twine check --strict dist/*

bench: .venv/installed
	for file in $(filter-out benchmarks/gpu.py benchmarks/numerics.py,$(wildcard benchmarks/*.py)); do $(BIN)/python $$file || exit 1; done

# Without a GPU: at toy size, to show that it runs.
bench-gpu: .venv/installed
	$(BIN)/python benchmarks/gpu.py

clean:
	rm -rf .venv .pytest_cache .mypy_cache .ruff_cache .hypothesis build dist *.egg-info

.venv/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@
