# `make help` lists the targets.
# The torch build is yours to choose: make install TORCH="torch==2.13.0 --index-url <the index of that build>"
TORCH ?= torch==2.13.0
PYTHON ?=
BIN := .venv/bin
STAMP := .venv/.installed
# Answers to questions that pip and Ray would ask or send home.
export PIP_DISABLE_PIP_VERSION_CHECK := 1
export RAY_USAGE_STATS_ENABLED := 0
export MLFLOW_DISABLE_TELEMETRY := true

.PHONY: help install demo reproduce search-page test test-cluster lint check docs pictures clean clean-runs
.DEFAULT_GOAL := help

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-11s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

install: $(STAMP) ## make .venv and install stillhouse into it, with the demo's weights and the tools

$(BIN)/python:
	@for python in $(PYTHON) python3 python3.13 python3.12 python3.11; do \
		if $$python -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then \
			echo "making .venv with $$($$python --version)"; exec $$python -m venv .venv; \
		fi; \
	done; \
	echo "error: Python 3.11 or newer with venv is needed: make install PYTHON=/path/to/python3.11" >&2; exit 1

# torch goes first: a build chosen by hand is then kept by what follows.
$(STAMP): pyproject.toml constraints.txt | $(BIN)/python
	$(BIN)/python -m pip install -q $(TORCH)
	$(BIN)/python -m pip install -q -c constraints.txt -e '.[demo,dev]'
	@touch $@

demo: install ## distil a ranker on real text and print the table; a second time it resumes
	$(BIN)/stillhouse run jobs/recipes/demo.yaml

reproduce: install ## run the papers' experiments at mini size, about an hour; a second time it resumes
	$(BIN)/stillhouse reproduce

search-page: install ## search on pydocs with a confirmation, about 20 minutes, and write docs/search/
	$(BIN)/stillhouse tune pydocs-search --resume
	$(BIN)/python -m benchmarks.search_page runs/pydocs-search docs/search

# A process a core: with threads of its own on top, each test would wait for the others.
test: install ## run the tests that need no Ray cluster, two processes at a time
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile -m "not cluster"

test-cluster: install ## run the tests that start Ray, servers and nodes, and kill them
	$(BIN)/python -m pytest -m cluster

lint: install ## formatting, lint and types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

check: lint test test-cluster ## all that must pass before a change goes in

docs: install ## write docs/commands.md, recipe.md, rankers.md and performance.md from code and results
	$(BIN)/python -m stillhouse.cli.reference docs
	$(BIN)/python -m benchmarks.ranker_page docs
	$(BIN)/python -m benchmarks.page docs

pictures: install ## make the pictures of docs/tracking.md: a small record, opened in Chromium
	$(BIN)/python -m tests.cluster.ui_pages docs/images

clean-runs: ## remove runs, score stores, records and caches; .venv stays
	rm -rf .stillhouse runs build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .coverage platform/*.egg-info
	find . -name __pycache__ -type d -not -path './.venv/*' -prune -exec rm -rf {} +

clean: clean-runs ## remove all that was written, .venv too
	rm -rf .venv
