# Everything a newcomer needs: make setup, make demo, make test.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
DEV_STAMP := $(VENV)/.installed-dev
PIP := $(BIN)/python -m pip --disable-pip-version-check
LOCKS := envs/locks
CHROMIUM ?= /usr/bin/chromium
MINUTES ?= 2

.PHONY: help setup setup-dev venv-streaming venv-full demo up test fuzz test-streaming test-full test-browser test-wheel test-newest \
  check check-envs check-containers format proto proto-image docs update-locks bench bench-gpu bench-page soak clean

help:  ## Show this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 20

setup: $(STAMP)  ## Make .venv with all that runs the embedded product: renderer, voice, talk page (no torch)

setup-dev: $(DEV_STAMP)  ## Add the tools of tests and checks to .venv

$(STAMP): pyproject.toml $(LOCKS)/default.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "warmtalk needs Python 3.11 or newer; found $$($(PYTHON) --version). Try: make setup PYTHON=python3.12"; exit 1; }
	@test -x $(BIN)/pip || $(PYTHON) -m venv $(VENV) || { \
	  rm -rf $(VENV); echo "Python has no venv module. On Debian or Ubuntu: apt-get install python3-venv"; exit 1; }
	$(PIP) install --require-hashes -r $(LOCKS)/default.txt
	$(PIP) install --no-deps --no-build-isolation -e .
	@touch $@

$(DEV_STAMP): $(STAMP) $(LOCKS)/dev.txt
	$(PIP) install --require-hashes -r $(LOCKS)/dev.txt
	@touch $@

venv-streaming: .venv-streaming/.installed  ## Make .venv-streaming: torch and MuseTalk, no detectors

venv-full: .venv-full/.installed  ## Make .venv-full: face detectors, parsing, torch, MuseTalk's image codec

.venv-streaming/.installed: SERVICE = infer
.venv-full/.installed: SERVICE = prep

.venv-%/.installed: pyproject.toml envs/install.sh $(LOCKS)/%.txt $(LOCKS)/%-torch.txt $(LOCKS)/full-no-deps.txt
	test -x .venv-$*/bin/pip || $(PYTHON) -m venv .venv-$*
	PATH=$(CURDIR)/.venv-$*/bin:$$PATH:$(CURDIR)/$(BIN) sh envs/install.sh $(SERVICE)
	.venv-$*/bin/python -m pip --disable-pip-version-check install --no-deps --no-build-isolation -e .
	.venv-$*/bin/python envs/check.py $*
	@touch $@

.venv-%/.installed-test: .venv-%/.installed $(LOCKS)/test.txt
	PATH=$(CURDIR)/.venv-$*/bin:$$PATH:$(CURDIR)/$(BIN) sh envs/install.sh test
	@touch $@

demo: $(STAMP)  ## A photograph speaks: builds an avatar, makes two conversations, says where they are
	$(BIN)/warmtalk demo

up: $(STAMP)  ## Start all services on this machine
	$(BIN)/warmtalk up

test: $(DEV_STAMP)  ## All tests of the embedded product
	$(BIN)/python -m pytest

fuzz: $(DEV_STAMP)  ## Thousands of spoiled files at the media door (FILES=4000)
	WARMTALK_FUZZ=$(or $(FILES),4000) $(BIN)/python -m pytest tests/rpc/test_fuzz.py

test-streaming: .venv-streaming/.installed-test  ## The tests that need torch: golden vectors, engine, weights
	.venv-streaming/bin/python -m pytest --confcutdir=tests/torch tests/torch

test-full: .venv-full/.installed-test  ## The tests of the detectors that need libraries of their own
	.venv-full/bin/python -m pytest --confcutdir=tests/full tests/full

test-browser: $(DEV_STAMP)  ## The talk page in a real Chromium (CHROMIUM=/usr/bin/chromium)
	@test -x $(CHROMIUM) || { echo "There is no $(CHROMIUM). On Debian: apt-get install chromium; or CHROMIUM=PATH"; exit 1; }
	CHROMIUM=$(CHROMIUM) $(BIN)/python -m pytest tests/browser

test-wheel: $(DEV_STAMP)  ## Build the wheel, install it in an environment of its own, run it outside the checkout
	$(BIN)/python -m pytest tests/wheel

test-newest: $(DEV_STAMP)  ## Unit tests with the newest packages that the ranges admit; reports, never fails
	@PATH=$$PATH:$(CURDIR)/$(BIN) sh envs/test_newest.sh $(PYTHON)

check: $(DEV_STAMP)  ## Format, lint, types, layers, protos, generated code, prose, structure
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/deno fmt --quiet --check
	$(BIN)/deno lint --quiet
	$(BIN)/deno check --quiet services/gateway/page/main.js benchmarks/*.js tests/browser/*.js
	$(BIN)/buf lint protos
	$(BIN)/buf breaking protos --against protos/image.binpb
	$(MAKE) --no-print-directory proto docs
	git diff --exit-code -- src/warmtalk/v1 docs/configuration.md
	$(BIN)/python -m scripts.check_prose
	$(BIN)/python -m scripts.check_structure

check-envs: $(STAMP) venv-streaming venv-full  ## Start each service in the environment that its Dockerfile makes
	@rm -rf build  # setuptools would install modules that are no longer there
	@set -e; scratch=$$(mktemp -d); trap "rm -rf $$scratch" EXIT; \
	for service in session gateway; do \
	  $(PYTHON) -m venv $$scratch/$$service; \
	  PATH=$$scratch/$$service/bin:$$PATH:$(CURDIR)/$(BIN) sh envs/install.sh $$service >/dev/null; \
	  $$scratch/$$service/bin/python -m pip install --quiet --no-deps --no-build-isolation .; \
	done; \
	cd $$scratch; \
	for one in prep=$(CURDIR)/.venv-full infer=$(CURDIR)/.venv-streaming session=$$scratch/session gateway=$$scratch/gateway; do \
	  $${one#*=}/bin/python -m warmtalk.services.$${one%%=*} --help >/dev/null; \
	  echo "environment of $${one%%=*}: installs and starts"; \
	done

check-containers: $(DEV_STAMP)  ## Lint the Dockerfiles and docker-compose.yml
	$(BIN)/hadolint envs/*.Dockerfile
	@if docker compose version >/dev/null 2>&1; then WARMTALK_API_KEY=x docker compose config --quiet; \
	elif command -v docker-compose >/dev/null; then WARMTALK_API_KEY=x docker-compose config --quiet; \
	else echo "docker compose is missing. On Debian: apt-get install docker-compose"; exit 1; fi

format: $(DEV_STAMP)  ## Format the code
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .
	$(BIN)/deno fmt --quiet

proto: $(DEV_STAMP)  ## Generate src/warmtalk/v1 from protos/
	rm -f src/warmtalk/v1/*_pb2*
	$(BIN)/python -m grpc_tools.protoc -Iprotos --plugin=protoc-gen-mypy=$(BIN)/protoc-gen-mypy \
	  --plugin=protoc-gen-mypy_grpc=$(BIN)/protoc-gen-mypy_grpc \
	  --python_out=src --grpc_python_out=src --mypy_out=quiet:src --mypy_grpc_out=quiet:src protos/warmtalk/v1/*.proto

proto-image: $(DEV_STAMP)  ## Take today's protos as what `make check` compares with, after a release
	$(BIN)/buf build protos -o protos/image.binpb

docs: $(DEV_STAMP)  ## Generate docs/configuration.md from the configuration's code
	$(BIN)/python -m warmtalk.config_loader > docs/configuration.md

update-locks: $(DEV_STAMP)  ## Renew envs/locks within the ranges of requirements*.txt and pyproject.toml
	PATH=$(CURDIR)/$(BIN):$$PATH sh envs/update_locks.sh

bench: $(DEV_STAMP)  ## Measure: a card and one JSON line
	$(BIN)/python -m benchmarks.main

bench-gpu: venv-streaming  ## Measure MuseTalk on this machine's GPU (or CPU, slowly), with random weights of full size
	.venv-streaming/bin/python -m benchmarks.engine

bench-page: $(DEV_STAMP)  ## Measure the talk page in a real Chromium: from Enter to the picture, 20 turns with lost connections
	@test -x $(CHROMIUM) || { echo "There is no $(CHROMIUM). On Debian: apt-get install chromium; or CHROMIUM=PATH"; exit 1; }
	$(BIN)/python -m benchmarks.page --chromium $(CHROMIUM)

soak: $(DEV_STAMP)  ## Live conversations: figures, then MINUTES=2 without a break; fails when sound drifts or memory grows
	$(BIN)/python -m benchmarks.live --minutes $(MINUTES)

clean:  ## Remove what the targets made
	rm -rf $(VENV) .venv-streaming .venv-full .venv-newest demo build dist *.egg-info src/*.egg-info \
	  .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
