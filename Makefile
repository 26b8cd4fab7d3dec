# Works with GNU make 3.81 (macOS) and later. Variables on the command line (`make dev PORT=8123`) and in the
# environment reach the program, because make hands both on; so this file sets none of the program's own.
.DEFAULT_GOAL := help
.PHONY: help dev psql migration migrate alembic reset test bench bench-check bench-count pictures stack traffic smoke drill stack-down check audit sbom lock entity rename clean venv

# Ends in $$python: a command of this name may exist and be too old, or be a shim for a Python that is not there.
FIND_PYTHON = for python in "$$PYTHON" python3.14 python3.13 python3.12 python3.11 python3 none; do \
	"$$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && break; done; \
	[ "$$python" != none ] || { found=`python3 --version 2>/dev/null`; \
	echo "error: Python 3.11 or newer is needed; found: $${found:-none}. PYTHON=/path/to/python3 names another." >&2; exit 1; }

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-11s %s\n", $$1, $$2 }' Makefile

dev: venv ## serve the API with a database of its own, again after each change
	@exec .venv/bin/python -m devtools dev

psql: venv ## look into its database; ARGS="-c 'SELECT 1'"
	@exec .venv/bin/python -m devtools psql $(ARGS)

migration: venv ## write a migration from the models; M="add color to board"
	@exec .venv/bin/python -m devtools migration -- "$$M"

migrate: venv ## apply the migrations; DOWN=1 takes one back, DOWN=base all
	@exec .venv/bin/python -m devtools migrate $(if $(DOWN),--down="$$DOWN")

alembic: venv ## run Alembic on the development database; ARGS=check
	@exec .venv/bin/python -m devtools alembic $(ARGS)

reset: venv ## empty the development database
	@exec .venv/bin/python -m devtools reset

test: venv ## run the tests; ARGS="-k health -x" goes to pytest
	@exec .venv/bin/python -m pytest -n 4 --dist worksteal -m "not slow" $(ARGS)

bench: venv ## measure what it costs, in half an hour; ARGS="--quick"
	@.venv/bin/python -m benchmarks run $(ARGS)

bench-count: venv ## count instructions a request with valgrind, and compare them with what is recorded
	@.venv/bin/python -m benchmarks count $(ARGS)

bench-check: venv ## compare what it costs with what is recorded; ARGS="--quick"
	@.venv/bin/python -m benchmarks check $(ARGS)

stack: ## start the API and all that watches it in Docker; ARGS="--scale api=3"
	@$(FIND_PYTHON); REVISION=`git rev-parse --short HEAD 2>/dev/null` exec "$$python" -Esm devtools.stack $(ARGS)

traffic: venv ## send it what users would; ARGS="--rate 50 --duration 10m"
	@exec .venv/bin/python -m devtools traffic $(ARGS)

smoke: venv ## check every link of the running stack; ARGS="--replicas 3"
	@exec .venv/bin/python -m devtools smoke $(ARGS)

drill: venv ## make every incident on servers of its own, and judge what is seen of it; ARGS="-k frozen"
	@exec .venv/bin/python -m pytest -n 2 --dist worksteal tests/drills $(ARGS)

stack-down: ## stop the stack; ARGS=--volumes forgets its data too
	@docker compose down $(ARGS)

pictures: venv ## take the pictures of docs/ anew, with Chromium and a Jaeger
	@exec .venv/bin/python -m devtools pictures

check: venv ## lint, formatting, types, import rules, migrations and licenses
	@.venv/bin/python -m ruff check
	@.venv/bin/python -m ruff format --check
	@.venv/bin/python -m mypy
	@.venv/bin/python -c 'from importlinter.cli import lint_imports_command as main; main()'
	@.venv/bin/python -m devtools lint
	@.venv/bin/python -m devtools licenses

audit: venv ## ask which advisories name a locked package; Error 3: not all could be checked
	@.venv/bin/python -m devtools audit

sbom: venv ## write the CycloneDX bill of materials of both lock files into .dev/sbom
	@.venv/bin/python -m devtools sbom

# Renovate runs the command that it reads in a lock file's first lines, in the order of the names. So the one with all packages is
# first, each option of theirs has `=`, and pip, which `venv` brings, is left out.
COMPILE = .venv/bin/python -m uv pip compile --quiet --universal --generate-hashes --python-version=3.11

lock: venv ## write both lock files from pyproject.toml; ARGS=--upgrade takes newer versions
	@$(COMPILE) --group=dev --no-emit-package=pip --output-file=requirements-dev.lock pyproject.toml $(ARGS)
	@$(COMPILE) --constraints=requirements-dev.lock --output-file=requirements.lock pyproject.toml $(ARGS)

entity: venv ## make an entity of your own; NAME=board, NAME=card PARENT=board, NAME=person PLURAL=people
	@exec .venv/bin/python -m devtools entity "$(NAME)" --plural "$(PLURAL)" --parent "$(PARENT)"

rename: ## give this project a name of its own; NAME=orders-api
	@$(FIND_PYTHON); exec "$$python" -I devtools/rename.py "$(NAME)"

clean: ## remove .venv, caches and the development database
	@$(FIND_PYTHON); "$$python" -I devtools/postgres/home.py .dev/*
	@rm -rf .dev .venv .venv.lock .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis .schemathesis
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

venv:
	@$(FIND_PYTHON); exec "$$python" -I devtools/bootstrap.py
