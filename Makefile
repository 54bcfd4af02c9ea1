# Everything that a developer or a build machine runs. `make help` lists it.
#
# The set-up is in .venv and is made again when the pins change; a second run is instant. Nothing is needed beforehand
# but Python 3.11 or later, make and a C library. PYTHON=... chooses the Python.

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
SHELL := /bin/bash

PYTHON ?= $(shell for p in python3 python3.11 python3.12 python3.13 python3.14; do \
	"$$p" -c 'import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { echo "$$p"; break; }; done)

# Hundreds of our processes start in a run. Where the environment forbids compiled modules (images of containers do), each
# would compile everything again: four seconds of processor instead of one.
unexport PYTHONDONTWRITEBYTECODE

BIN := .venv/bin
# Two workers: enough for two cores, and the memory of a small machine. Who is done early helps the other.
PYTEST = $(BIN)/pytest --dist worksteal -n $(or $(WORKERS),2)
# What `make test` leaves out, `make ci` runs: one expression, so that nothing falls between.
LATER := slow or debian or postgres or softhsm or chromium or wapiti or foreign or clients
SEEDS ?= 200
KEEP ?=


.PHONY: help
help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

## Set-up -----------------------------------------------------------------------------------------------------------

# tools/set_up.py does one of them at a time in a checkout, whoever asks for it, and what is there already stays.
define set_up
@if [ ! -x $(BIN)/python ] && [ -z "$(PYTHON)" ]; then \
	echo "Tallystick needs Python 3.11 or later with its venv module; none was found on PATH." >&2; \
	echo "Install one (on Debian: python3 and python3-venv), or name it: make PYTHON=/path/to/python3.11" >&2; \
	exit 1; fi
@$(or $(PYTHON),$(BIN)/python) tools/set_up.py $(1)
endef

.venv/.base: requirements/base.txt requirements/build.txt pyproject.toml
	$(call set_up,base)

.venv/.test: requirements/test.txt requirements/build.txt pyproject.toml
	$(call set_up,test)

.venv/.dev: requirements/dev.txt requirements/build.txt pyproject.toml
	$(call set_up,dev)

build/lowest/.lowest: requirements/lowest.txt requirements/build.txt pyproject.toml
	$(call set_up,lowest)

# Verifiers that are not ours, in the newest Python at hand: one of them wants 3.12.
FOREIGN_PYTHON ?= $(shell for p in python3.14 python3.13 python3.12 python3 $$(ls -d "$$HOME"/.pyenv/versions/3.1[2-9]*/bin/python 2>/dev/null); do \
	"$$p" -c 'import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 12))' 2>/dev/null && { echo "$$p"; break; }; done)

build/foreign/.foreign: requirements/foreign.txt requirements/build.txt
	@if [ -z "$(FOREIGN_PYTHON)" ]; then \
	echo "The tests marked foreign need Python 3.12 or later; name one: make FOREIGN_PYTHON=/path/to/python3.12" >&2; exit 1; fi
	@$(FOREIGN_PYTHON) tools/set_up.py foreign

build/generators/.generators: requirements/generators.txt requirements/build.txt
	@$(or $(PYTHON),python3) tools/set_up.py generators

# npm reads and writes where it is told, runs nothing of what it installs, and takes exactly what the lock file hashes.
build/node/.node: tests/clients/generated/package.json tests/clients/generated/package-lock.json | system-packages
	@mkdir -p build/node && cp tests/clients/generated/package*.json build/node
	@cd build/node && npm ci --ignore-scripts --no-audit --no-fund --loglevel error
	@touch $@

## What people run --------------------------------------------------------------------------------------------------

.PHONY: demo
demo: .venv/.base  ## the whole story with real processes, in a minute (KEEP=1 leaves everything running)
	@$(BIN)/tallystick demo $(if $(KEEP),--keep)

.PHONY: test
test: $(if $(T),.venv/.dev,.venv/.test)  ## every layer in minutes, with nothing but Python (T=path or T=path::test runs a part, slow ones too)
	$(PYTEST) $(if $(T),$(T),-m "not ($(LATER))")

.PHONY: slowest
slowest:  ## the twenty slowest tests of the runs of this checkout (COUNT=20)
	@$(PYTHON) tools/slowest.py $(or $(COUNT),20)

.PHONY: check
check: lint docs-check  ## the fast part: format, lint, types, contracts, quick tests, seeds
	$(PYTEST) $(wildcard tests/unit tests/property tests/golden tests/simulation) -m "not ($(LATER))"
	@$(MAKE) --no-print-directory simulate

.PHONY: ci
ci: system-packages build/foreign/.foreign build/generators/.generators build/node/.node lint docs-check audit  ## what `make test` leaves out: PostgreSQL, Chromium, 5,000 seeds, a hundred under kill -9, ...
	@$(MAKE) --no-print-directory simulate SEEDS=5000 EVERY_CELL=1
	@$(MAKE) --no-print-directory proof explore mutants mutants-sample
	@$(MAKE) --no-print-directory powercuts
	@$(MAKE) --no-print-directory lowest
	@$(MAKE) --no-print-directory history MINUTES=0.4
	$(PYTEST) -m "$(LATER)"
	@echo "web scan: $$(cat build/wapiti.txt)"
	@echo "installation page: $$(cat build/installation-page.txt)"
	@echo "dependency audit: $$(cat build/audit.txt)"

.PHONY: slow
slow: .venv/.dev system-packages  ## what takes long: real processes in number, kill -9, gigabytes at every entrance
	$(PYTEST) -m slow

.PHONY: lowest
lowest: build/lowest/.lowest  ## the unit tests on the lowest versions that pyproject.toml allows
	build/lowest/bin/pytest -n $(or $(WORKERS),2) --override-ini filterwarnings=default tests/unit tests/golden -m "not ($(LATER))"

.PHONY: soak
soak: .venv/.dev  ## simulate until stopped or until something is found, from a seed of its own each time (FIRST=0)
	$(BIN)/tallystick simulate --soak --steps 300 --first $(or $(FIRST),$(shell date +%s))

.PHONY: explore
explore: .venv/.dev  ## every interleaving of small worlds (EXPLORE_SECONDS=20 of processor time for each)
	$(BIN)/tallystick simulate --exhaustive --world all --max-seconds $(or $(EXPLORE_SECONDS),20)

.PHONY: proof
proof: .venv/.dev  ## the inductive proof of the protocol in Z3, and the courses that the old rules allowed
	$(BIN)/python -m proof

.PHONY: mutants
mutants: .venv/.dev  ## seeded errors in the parties' code: simulation or exploration must find each of them
	$(BIN)/python tools/mutants.py --workers $(or $(WORKERS),2)

.PHONY: mutants-sample
mutants-sample: .venv/.dev  ## generated errors: a sample of those that were found before must be found again (SAMPLE=60, SAMPLE_SEED=1)
	@PYTHONPATH=tools $(BIN)/python -m mutation --found-before --sample $(or $(SAMPLE),60) --sample-seed $(or $(SAMPLE_SEED),1)

.PHONY: mutants-all
mutants-all: .venv/.dev  ## every generated error, for hours; stop it whenever, it goes on where it was (build/mutation)
	@PYTHONPATH=tools $(BIN)/python -m mutation

.PHONY: powercuts
powercuts: .venv/.dev system-packages  ## the power goes at every system call that matters; controls without a sync must be found
	@PYTHONPATH=tools:tests $(BIN)/python -m powercuts --workers $(or $(WORKERS),2)

.PHONY: history
history: .venv/.dev system-packages  ## what everybody saw, under kill -9 of workers and PostgreSQL, against the ledger's order (MINUTES=10, HISTORY_SEED=1)
	@PYTHONPATH=tools:tests $(BIN)/python -m history --minutes $(or $(MINUTES),10) --seed $(or $(HISTORY_SEED),1)

.PHONY: bench
bench: .venv/.dev  ## how fast it is, beside limits measured in the same run (ROWS='B1 B3', BENCH_SCALE=0.05)
	@PYTHONPATH=tests $(BIN)/python -m benchmarks $(ROWS)

.PHONY: bench-site
bench-site: .venv/.dev  ## one return of a thousand field servers, beside the same HTTPS calls (BENCH_SITE_COUNT=1000)
	@$(BIN)/python -m benchmarks.site

.PHONY: ha
ha: .venv/.dev  ## fail-over, really: three PostgreSQL under Patroni, killed and cut off under load (5 minutes; HA='--only 1')
	@tools/install-system-packages.sh ha
	@PYTHONPATH=tools:tests:. $(BIN)/python -m ha $(HA)

.PHONY: packages
packages: .venv/.dev  ## wheel, sdist, lists of pins and Device Administrator in one file, into dist/ (PYZ_FOR=windows_amd64, PYZ_PYTHONS=3.13)
	@PYTHONPATH=tools $(BIN)/python -m packages wheel pyz

.PHONY: release
release: .venv/.dev  ## packages with bill of materials, notes, checksums and their signature (RELEASE_KEY=key.pem, from outside)
	@PYTHONPATH=tools $(BIN)/python -m packages wheel pyz release

.PHONY: format
format: .venv/.dev  ## format the code, and fix what ruff can fix by itself
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

.PHONY: docs
docs: .venv/.dev  ## write the pages that are generated from the code
	$(BIN)/python tools/commands_page.py
	$(BIN)/python tools/errors_page.py
	$(BIN)/python tools/openapi_file.py

.PHONY: sentences
sentences: .venv/.dev  ## take new sentences into every language, and compile them (LANGUAGE_NEW=de begins one)
	$(BIN)/python tools/sentences.py $(if $(LANGUAGE_NEW),--language $(LANGUAGE_NEW))

.PHONY: pseudo-locale
pseudo-locale: .venv/.dev  ## make a language that shows what went through the catalog
	$(BIN)/python tools/sentences.py --pseudo build/translations
	@echo "now: TALLYSTICK_TRANSLATIONS=build/translations LANGUAGE=en_XA $(BIN)/tallystick ..."

.PHONY: screenshots
screenshots: .venv/.dev system-packages  ## take the pictures of docs/portal anew, by the browser tests
	TALLYSTICK_SCREENSHOTS=1 $(PYTEST) tests/e2e/test_portal_pages.py tests/e2e/test_portal_return.py

.PHONY: requirements
requirements: .venv/.dev  ## write requirements/*.txt from pyproject.toml (UPGRADE=1: newest versions)
	tools/compile-requirements.sh $(if $(UPGRADE),--upgrade)

.PHONY: clean
clean:  ## remove .venv and every cache
	rm -rf .venv .venv.lock .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache build dist

## Parts of check and ci --------------------------------------------------------------------------------------------

.PHONY: lint
lint: .venv/.dev
	$(BIN)/ruff format --check --output-format concise .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/mypy --platform win32 --cache-dir .mypy_cache/win32 src/tallystick/administrator
	$(BIN)/mypy --platform darwin --cache-dir .mypy_cache/darwin src/tallystick/administrator
	$(BIN)/lint-imports --no-logo

.PHONY: docs-check
docs-check: .venv/.dev
	$(BIN)/python tools/commands_page.py --check
	$(BIN)/python tools/errors_page.py --check
	$(BIN)/python tools/openapi_file.py --check
	$(BIN)/python tools/sentences.py --check

.PHONY: simulate
simulate: .venv/.dev
	$(BIN)/tallystick simulate --seeds $(SEEDS) $(if $(EVERY_CELL),--cells --every-cell)

.PHONY: audit
audit: .venv/.dev
	$(BIN)/python tools/audit.py requirements/dev.txt requirements/build.txt

.PHONY: system-packages
system-packages:
	@tools/install-system-packages.sh
