# `make help` lists the targets. A target builds what it needs; a second call does not build it again.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

VENV := .venv
BIN := $(VENV)/bin
PYTHON = $(firstword $(foreach name,python3 python3.14 python3.13 python3.12 python3.11,$(shell \
	$(name) -c 'import sys, ensurepip; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1 && echo $(name))))
# Where the words of .vocabulary are refused: each line is a word to avoid and what to write instead.
PLAIN := README.md CONTRIBUTING.md SECURITY.md CHANGELOG.md Makefile docs/architecture.md docs/coming-from-dbt.md docs/kpis.md \
	docs/structure.md docs/decisions docs/testing.md driver/docs simulator
# What finds the most faults in the least time: see the table of docs/testing.md.
CHECKED := $(addprefix tests/engine/test_,layers.py template.py define.py second_business.py change_detection.py) \
	$(addprefix tests/warehouse/test_,actions.py versions.py) $(addprefix tests/platform/test_,imports.py documentation.py)
PYTEST_ARGS ?= -n auto --dist worksteal

.PHONY: help
help: ## List the targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1|\2/p' $(MAKEFILE_LIST) | column -t -s '|'

.PHONY: demo
demo: $(VENV)/.installed ## Start an embedded PostgreSQL, load a warehouse, show a failure and its repair
	@$(BIN)/oceanrecords demo $(DEMO_ARGS)

.PHONY: install
install: $(VENV)/.installed ## The virtual environment, with the program in it

.PHONY: test
test: $(VENV)/.installed-test server-packages lint ## Everything: style, types, and the tests on both servers
	$(BIN)/pytest --server all $(PYTEST_ARGS)

.PHONY: check
check: $(VENV)/.installed-test ## Every day: style and types of Python, and the fast tests
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/pytest $(PYTEST_ARGS) -m "not slow" $(CHECKED)

.PHONY: bench
bench: $(VENV)/.installed-test ## Measure the warehouse against dbt and hand-written SQL (BENCH_ARGS='--help')
	@$(BIN)/python -m benchmarks $(BENCH_ARGS)

.PHONY: lint
lint: $(VENV)/.installed-test ## Style of Python and SQL, and types
	@$(MAKE) --no-print-directory --jobs --output-sync lint-python lint-sql lint-words

.PHONY: lint-python lint-sql lint-words
lint-python:
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
lint-sql:
	$(BIN)/sqlfluff lint --disable-progress-bar migrations plpgsql
lint-words:
	$(BIN)/codespell README.md CONTRIBUTING.md SECURITY.md CHANGELOG.md docs base driver simulator metabase plpgsql migrations tests benchmarks
	$(BIN)/codespell --dictionary .vocabulary $(PLAIN)

.PHONY: format
format: $(VENV)/.installed-test ## Format Python
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

.PHONY: server-packages
server-packages: ## Install Debian's PostgreSQL 15 for the tests, if apt and the privileges allow it
	@bash tests/support/server-packages.sh

.PHONY: lock
lock: $(VENV)/bin/python ## Pin the newest versions that pyproject.toml allows in constraints.txt (LOCK_ARGS='--upgrade-package NAME')
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	@$(BIN)/uv pip compile --quiet --extra test --universal --python-version 3.11 --no-emit-index-url --strip-extras \
		--custom-compile-command 'make lock' $(or $(LOCK_ARGS),--upgrade) --output-file constraints.txt pyproject.toml

.PHONY: released
released: ## Add new migrations to the list of released ones, which are frozen
	@cd migrations && touch released.sha256 && for file in */[0-9]*.sql; do \
		grep -q "  $$file$$" released.sha256 || sha256sum "$$file" >>released.sha256; \
	done

.PHONY: clean
clean: ## Remove build products; the database in .oceanrecords stays
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(VENV)/bin/python:
	@if [ -z "$(PYTHON)" ]; then \
		echo "Python 3.11 or newer, with its venv module, is needed and was not found." >&2; \
		echo "On Debian and Ubuntu: apt-get install python3 python3-venv" >&2; \
		exit 1; \
	fi
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: pyproject.toml | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable .
	@touch $@

$(VENV)/.installed-test: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[test]'
	@touch $(VENV)/.installed $@
