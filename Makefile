# Everything a user or developer does, by one word. `make` alone lists the words.
SHELL := /bin/bash
.DEFAULT_GOAL := help
PYTHON ?= python3
# a uv of one's own if there is none: from the package index, into .tools/, as in the image
UV := $(shell command -v uv 2>/dev/null || echo .tools/bin/uv)
export UV_PYTHON_DOWNLOADS := never
RUN := $(UV) run --frozen --no-sync

.PHONY: help
help: ## List the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  %-18s %s\n", $$1, $$2}'

.tools/bin/uv:
	$(PYTHON) -m venv .tools
	.tools/bin/pip install --quiet --disable-pip-version-check --require-hashes -r deploy/uv.txt

.venv/.synced: pyproject.toml uv.lock | $(filter .tools/bin/uv,$(UV))
	$(UV) sync --frozen --quiet
	@touch $@

.PHONY: setup
setup: .venv/.synced ## Install everything into .venv

.PHONY: run
run: setup ## Run the whole system in one process on http://127.0.0.1:8000
	$(RUN) rendezvous run

.PHONY: train-canary
train-canary: setup ## Train the canary: LogisticRegression on Iris, version 0
	$(RUN) python -m training Iris LogisticRegression --replace

.PHONY: train-model
train-model: setup ## Train the production model: DecisionTree on Iris, version 1
	$(RUN) python -m training Iris DecisionTree --replace

.PHONY: train-housing
train-housing: setup ## Train the housing model: RandomForest, version 1
	$(RUN) python -m training Housing RandomForest --name price --version 1 --replace

.PHONY: pulsar
pulsar: setup ## Start a real Apache Pulsar on 127.0.0.1:6650
	$(RUN) python -m deploy.servers pulsar up

.PHONY: elasticsearch
elasticsearch: setup ## Start a real Elasticsearch on 127.0.0.1:9200
	$(RUN) python -m deploy.servers elasticsearch up

.PHONY: servers-down
servers-down: setup ## Stop both
	$(RUN) python -m deploy.servers down

.PHONY: up
up: setup ## Run the whole system in containers, front end on 127.0.0.1:8000
	$(RUN) python -m deploy.stack up

.PHONY: down
down: setup ## Stop the containers; their data stays (`make clean` drops it)
	$(RUN) python -m deploy.stack down

.PHONY: logs
logs: setup ## Follow what the containers log
	$(RUN) python -m deploy.stack logs

.PHONY: ps
ps: setup ## List the containers and how they are
	$(RUN) python -m deploy.stack ps

.PHONY: images
images: setup ## Build stand-ins here for the official images, where none can be pulled
	$(RUN) python -m tests.images

.PHONY: engine
engine: setup ## Start a private Docker engine where none runs (Debian, as root)
	$(RUN) python -m deploy.engine up

.PHONY: engine-down
engine-down: setup ## Stop the private Docker engine
	$(RUN) python -m deploy.engine down

.PHONY: lint
lint: setup ## Style, types and the direction of imports
	$(RUN) ruff check .
	$(RUN) ruff format --check .
	$(RUN) mypy
	$(RUN) lint-imports

.PHONY: check
check: lint ## Seconds: lint and the tests that need no server
	$(RUN) pytest -q -m "not pulsar and not elasticsearch" tests/unit tests/architecture

.PHONY: test
test: lint ## Everything that CI runs: lint, and all tests on real servers, with coverage
	rm -f .coverage .coverage.*
	$(RUN) pytest --cov --cov-report= $(PYTEST_ARGS)
	$(RUN) coverage report --fail-under=95

.PHONY: bench
bench: setup ## Capacity, latency and costs beside a bare service and the bare bus: five minutes
	$(RUN) python -m bench

.PHONY: bench-growth
bench-growth: setup ## Whether a request costs more with more models, or after a million: twenty minutes
	$(RUN) python -m bench.growth

.PHONY: bench-peers
bench-peers: setup ## Capacity beside BentoML, LitServe, MLServer and Ray Serve: five minutes
	$(RUN) python -m bench.peers

.PHONY: bench-profile
bench-profile: setup ## Where the microseconds go in each service: three minutes
	$(RUN) python -m bench.profile

.PHONY: clean
clean: ## Remove what running, training and testing made, with the containers' data
	test ! -x .venv/bin/python || $(RUN) python -m deploy.stack clean
	rm -rf archive models/*/ .coverage .coverage.* .hypothesis .pytest_cache .mypy_cache .ruff_cache
