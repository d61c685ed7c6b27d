# `make` alone prints what there is to do.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

VENV := .venv
BIN := $(VENV)/bin
UV_VERSION := 0.13.9

# The first Python >= 3.11 that can make a virtual environment. `make PYTHON=/path/to/python3 …` chooses another.
PYTHON ?= $(shell for python in python3 python3.13 python3.12 python3.11 python3.14; do \
	"$$python" -c 'import sys, ensurepip, venv; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo "$$python" && break; done)

# Tests start hundreds of Python processes. Where nothing compiled is kept, each compiles all modules anew: half a second
# of a processor for an operator, 20 for a process that collects the tests.
unexport PYTHONDONTWRITEBYTECODE

# Further arguments of the command behind a target, for example `make test ARGS="-k policy -x"`.
ARGS ?=

# How many processes share the tests; ARGS=-n0 runs them in one.
WORKERS ?= 3
# Groups begin in the order of tests/groups.py: the longest first.
SIDE_BY_SIDE = --numprocesses $(WORKERS) --dist loadgroup --no-loadscope-reorder

# What the demo's sandbox runs on, `make demo BACKEND=docker`: a Docker Engine, yours or one that is brought along.
BACKEND ?=
BACKEND_OPTION = $(if $(BACKEND),--backend $(BACKEND))

.PHONY: help demo demo-down test test-all test-unit test-api test-e2e programs images-and-programs conformance lint format generate bench images publish lock clean

help: ## Print this.
	@echo "claude-sandbox-operator: hardened, isolated and measured sandboxes for Claude Code agents."
	@echo
	@echo "To see it work:      make demo      (and 'make demo-down' to remove all of it)"
	@echo "... on plain Docker: make demo BACKEND=docker"
	@echo "To change it:        make test lint"
	@echo
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "  %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
	@echo
	@echo "Everything is kept in $(VENV) and in the cache (XDG_CACHE_HOME, by default ~/.cache/claude-sandbox)."

demo: $(VENV)/.installed ## A cluster (yours by KUBECONFIG, kind, or one of its own), the operator, and a sandbox in it.
	@$(BIN)/claude-sandbox demo $(BACKEND_OPTION) $(ARGS)

demo-down: $(VENV)/.installed ## Remove what the demo made, on either backend.
	@$(BIN)/claude-sandbox demo --down $(BACKEND_OPTION) $(ARGS)

test: $(VENV)/.installed images-and-programs ## The tests but for slow matrices. Those that need a node or a Docker Engine are skipped, and say so, unless run as root.
	@$(BIN)/pytest $(SIDE_BY_SIDE) $(ARGS)

test-all: $(VENV)/.installed images-and-programs ## All tests, the slow rest of the matrices too (hours).
	@$(BIN)/pytest $(SIDE_BY_SIDE) -m "slow or not slow" $(ARGS)

test-unit: $(VENV)/.installed ## The tests that need nothing but Python.
	@$(BIN)/pytest -m "not controlplane and not node and not engine" $(ARGS)

test-api: $(VENV)/.installed programs ## The tests against a real API server (made by them).
	@$(BIN)/pytest -m controlplane $(ARGS)

test-e2e: $(VENV)/.installed images-and-programs ## The tests on a real node and in real Docker Engines (made by them, as root).
	@$(BIN)/pytest -m "node or engine" $(ARGS)

conformance: $(VENV)/.installed images-and-programs ## Ask the same of every backend (as root), and write docs/reference/backends.md from what was found.
	@$(BIN)/pytest tests/conformance -m "slow or not slow" --write-results $(ARGS)
	@$(BIN)/python -m tests.conformance.table

# Built before the tests rather than by the first that needs them: no test's time limit has to allow for a compiler.
programs: $(VENV)/.installed
	@$(BIN)/python -m tests.programs

images-and-programs: $(VENV)/.installed
	@$(BIN)/python -m tests.programs --node

lint: $(VENV)/.installed ## Style, types, the order of the imports, and whether generated files are up to date.
	@$(BIN)/ruff check
	@$(BIN)/ruff format --check
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-logo
	@for module in $(GENERATORS); do echo "$$module --check"; $(BIN)/python -m "$$module" --check; done

format: $(VENV)/.installed ## Let ruff lay out the code.
	@$(BIN)/ruff check --fix --quiet
	@$(BIN)/ruff format

generate: $(VENV)/.installed ## Write the files that are generated from the code: CRDs, reference documentation.
	@for module in $(GENERATORS); do echo "$$module"; $(BIN)/python -m "$$module"; done

# Every room's `generate` module writes its files, or with --check compares them; so do pages made of what tests found.
GENERATORS := $(subst /,.,$(patsubst operator/%.py,%,$(wildcard operator/claude_sandbox/*/generate.py))) \
	tests.conformance.table tests.conformance.mutations tests.guide.page

bench: $(VENV)/.installed programs ## Measure speed and memory with hundreds of sandboxes on pretended nodes (ARGS=--docker: on an engine; ARGS=--gateway: the gateway; ARGS=--deliveries: sandboxes with one and without; ARGS=--probes: probing, with --node on a real node; ARGS=--backups: storing a workspace; ARGS=--git: clones by it; ARGS=--incidents: until one is contained).
	@$(BIN)/python -m tests.bench $(ARGS)

images: $(VENV)/.installed ## Build the operator's and the sandbox's image.
	@$(BIN)/python -m claude_sandbox.localcluster.images $(ARGS)

publish: $(VENV)/.installed ## Push and sign both images, with what they are made of (ARGS="--to registry.example.com/claude --key cosign.key").
	@$(BIN)/python -m claude_sandbox.localcluster.images.publish $(ARGS)

lock: ## Pin the dependencies anew after a change of pyproject.toml (ARGS=--upgrade: to their newest versions).
	$(need-python)
	@scratch=$$(mktemp -d); trap 'rm -rf "$$scratch"' EXIT; \
	echo "Fetching uv $(UV_VERSION)."; \
	$(PYTHON) -m venv "$$scratch/uv"; "$$scratch/uv/bin/pip" install --quiet --disable-pip-version-check uv==$(UV_VERSION); \
	compile=("$$scratch/uv/bin/uv" pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-annotate --no-header $(ARGS)); \
	"$${compile[@]}" pyproject.toml --output-file requirements.lock; \
	"$${compile[@]}" --group build --output-file requirements-build.lock; \
	"$${compile[@]}" pyproject.toml --group dev --output-file requirements-dev.lock; \
	echo "Wrote requirements.lock, requirements-build.lock and requirements-dev.lock."

clean: ## Remove what was made in this directory. The cache of built programs stays.
	@rm -rf $(VENV) build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache
	@find operator tests -name __pycache__ -type d -prune -exec rm -rf {} +

define need-python
@if [ -z "$(PYTHON)" ]; then \
	echo "No Python of version 3.11 or newer with its venv module was found." >&2; \
	echo "Install one (Debian, Ubuntu: apt-get install python3 python3-venv; Fedora: dnf install python3)," >&2; \
	echo "or name it: make PYTHON=/path/to/python3 $(MAKECMDGOALS)" >&2; \
	exit 1; fi
endef

$(VENV)/.installed: requirements-dev.lock pyproject.toml
	$(need-python)
	@echo "Setting up $(VENV) with $(PYTHON) (about a minute the first time)."
	@[ -x $(BIN)/python ] || $(PYTHON) -m venv $(VENV)
	@$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes --requirement requirements-dev.lock
	@$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@
