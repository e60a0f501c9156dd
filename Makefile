# What to type. `make run` and `make test` set everything up by themselves on a fresh machine.
# The last line of `make run ONCE=1` is its summary, also when another make calls it.
MAKEFLAGS += --no-print-directory
.DEFAULT_GOAL := help
.PHONY: help setup run test bench fuzz faults check fmt clean lock schemas proto

PYTHON := .venv/bin/python
SOURCES := $(wildcard services shared contracts tilt tests)
UV := $(or $(shell command -v uv),.local/uv/bin/uv)

help: ## Show what there is
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: ## Make .venv with the locked packages (all others call it)
	@sh tilt/setup.sh

run: setup ## Run everything locally and one real payment session; ONCE=1 stops after the summary
	@$(PYTHON) -m tilt.run $(if $(ONCE),--once)

test: setup ## Run the tests on real servers, e.g. make test ARGS="-k signer"; TEST_INFRA=containers for Docker
	@$(PYTHON) -m pytest -q -n auto --maxprocesses 4 --dist loadscope tests $(ARGS)

check: setup ## Lint, types, import contracts, generated files current
	@.venv/bin/ruff check $(SOURCES)
	@.venv/bin/ruff format --check $(SOURCES)
	@.venv/bin/mypy --strict $(SOURCES)
	@.venv/bin/lint-imports
	@$(PYTHON) -m contracts.generate --check

fmt: setup ## Format, and repair what ruff can repair
	@.venv/bin/ruff check --fix --exit-zero $(SOURCES)
	@.venv/bin/ruff format $(SOURCES)

bench: setup ## Print figures of the whole system as JSON lines (some two minutes)
	@$(PYTHON) -m tests.bench.bench

fuzz: setup ## Bent requests against the signer and running processes: N=200000, SEED=1; TOTALS=a file to go on from
	@$(PYTHON) -m tests.fuzz.fuzz --inputs $(or $(N),200000) --seed $(or $(SEED),1) \
		$(if $(TOTALS),--totals $(TOTALS))

faults: setup ## Kills, crashes, hangs and races, long; totals in docs/faults.json: PARTS="kills", N=200, SEED=1
	@$(PYTHON) -m tests.faults $(PARTS) --seed $(or $(SEED),1) $(if $(N),--amount $(N))

schemas: setup ## Generate JSON Schema, AsyncAPI and OpenAPI from contracts
	@$(PYTHON) -m contracts.generate

proto: setup ## Generate the code of contracts/livepeer/payments.proto
	@$(PYTHON) -m grpc_tools.protoc -I. --python_out=. --mypy_out=. \
		--plugin=protoc-gen-mypy=.venv/bin/protoc-gen-mypy contracts/livepeer/payments.proto

lock: setup ## Write requirements.lock anew from pyproject.toml
	@$(UV) pip compile -q --universal --python-version 3.12 --generate-hashes --no-header \
		--group dev pyproject.toml -o requirements.lock

clean: ## Remove what runs have left in .local (not what still runs), and caches
	@if [ -x $(PYTHON) ]; then $(PYTHON) -m tilt.clean; fi
	@rm -rf .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	@find . -path ./.venv -prune -o -name __pycache__ -type d -prune -exec rm -rf {} +
