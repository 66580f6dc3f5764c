# `make demo` and `make test` are all that a fresh machine with Python 3.11 and make needs.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
FRAMEWORKS := openai_agents pydantic_ai langgraph

.DEFAULT_GOAL := help
.PHONY: help setup docs demo demo-web check test test-delays test-llm test-integrations mcp-proof test-deploy test-lowest test-newest lint format bench test-ui soak histories lock dist clean

help:
	@echo "make demo     an agent asks, waits, is approved and finishes, on a real Temporal server"
	@echo "make demo-web the same in a browser: the approvals page, with a passkey"
	@echo "make check    before a commit: lint, unit tests, replay, in about a minute"
	@echo "make test     the tests          make lint     ruff, mypy strict, pyright strict"
	@echo "make bench    the benchmarks     make test-ui  approve by clicking in the Temporal Web UI"
	@echo "make test-delays                 the tests with a server, with calls delayed at random"
	@echo "make soak     long runs          make test-llm a real language model, and LiteLLM's proxy"
	@echo "make test-integrations           a program in TypeScript, agents of other frameworks"
	@echo "make mcp-proof                   MCP servers of others, killed in every gap; needs node and npm"
	@echo "make docs     the documentation's site, in site/"
	@echo "make dist     sdist and wheel, checked; the page Start, followed in empty environments"
	@echo "make test-lowest, test-newest    the tests with the lowest and the newest dependencies that are allowed"

setup: $(STAMP)

$(STAMP): requirements.lock pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Assent needs Python 3.11 or later; set PYTHON=")'
	@echo "Installing into $(VENV): about half a minute"
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

demo: setup
	@$(BIN)/python examples/demo.py

demo-web: setup
	@$(BIN)/python examples/demo_web.py

# Side by side, each with a server of its own: two processes more than there are cores, because a test often waits.
SIDE_BY_SIDE = $$($(PYTHON) -c 'import os; print(min(4, os.cpu_count() + 2))')
test: setup
	$(BIN)/python -m pytest -n $(SIDE_BY_SIDE) --dist worksteal

# The tests with a server, with calls delayed at random and in random order: half an hour.
test-delays: setup
	$(BIN)/python -m pytest -p tests.support.delays -p randomly -n $(SIDE_BY_SIDE) --dist worksteal --timeout 240 \
		tests/workflows tests/e2e tests/web

# What a commit needs: quick, and without a server. The slow state machines and sandboxes are left to `make test`.
check: setup
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -q -n auto --maxprocesses 4 -m "not slow and not ui and not soak" tests/unit tests/replay

lint: setup
	$(BIN)/codespell
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/python docs/site/programs.py
	$(BIN)/pyright

format: setup
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: setup
	$(BIN)/python -m bench

test-ui: setup tests/ui/node_modules/.installed
	ASSENT_SCREENSHOTS=1 $(BIN)/python -m pytest -m ui tests/ui

# The check of accessibility, a script that the tests run in the browser.
tests/ui/node_modules/.installed: tests/ui/package.json
	cd $(@D)/.. && npm install --ignore-scripts --no-audit --no-fund --no-package-lock --silent && touch node_modules/.installed

# A real language model, and LiteLLM's proxy. Building the model's server takes some minutes, once.
test-llm: setup .venv-llm/.installed
	$(BIN)/python -m pytest -m llm tests/llm

.venv-llm/.installed: tests/llm/requirements.txt
	$(PYTHON) -m venv .venv-llm
	.venv-llm/bin/python -m pip install --quiet --disable-pip-version-check -r $<
	@touch $@

# Without node and npm the test of the TypeScript program says that it is skipped.
test-integrations: setup examples/typescript/node_modules/.installed $(FRAMEWORKS:%=.venv-integrations-%/.installed)
	$(BIN)/python -m pytest -m integrations tests/integrations

examples/typescript/node_modules/.installed: examples/typescript/package-lock.json
	@if command -v npm >/dev/null; then \
		cd $(@D)/.. && npm ci --ignore-scripts --no-audit --no-fund --silent && touch node_modules/.installed; \
	fi

.venv-integrations-%/.installed: examples/integrations/%/requirements.txt pyproject.toml
	@echo "Installing into $(@D): about a minute"
	$(PYTHON) -m venv $(@D)
	$(@D)/bin/python -m pip install --quiet --disable-pip-version-check -r $< -e .
	@touch $@

mcp-proof: setup .mcp-servers/.installed
	$(BIN)/python -m pytest -n 0 -m mcp tests/integrations

.mcp-servers/.installed: $(wildcard tests/integrations/mcp_servers/*)
	@command -v npm >/dev/null || { echo "make mcp-proof needs node 20 and npm. Debian: apt-get install nodejs npm"; exit 1; }
	$(PYTHON) -m venv $(@D)
	$(@D)/bin/python -m pip install --quiet --disable-pip-version-check -r tests/integrations/mcp_servers/requirements.txt
	cp tests/integrations/mcp_servers/package*.json $(@D)
	cd $(@D) && npm ci --ignore-scripts --no-audit --no-fund --silent
	@touch $@

# The manifests, put together by kubectl and compared with the schemas of Kubernetes.
test-deploy: .venv-deploy/.installed
	kubectl kustomize deploy/kubernetes/keda >/dev/null
	kubectl kustomize deploy/kubernetes/base >.venv-deploy/base.yaml
	.venv-deploy/bin/kubernetes-validate --strict --kubernetes-version 1.34 .venv-deploy/base.yaml

.venv-deploy/.installed: deploy/kubernetes/requirements.txt
	$(PYTHON) -m venv .venv-deploy
	.venv-deploy/bin/python -m pip install --quiet --disable-pip-version-check -r $<
	@touch $@

# With the lowest versions that pyproject.toml allows, and with the newest: TESTS="tests/unit" for some of them.
test-lowest: RESOLUTION := lowest-direct
test-newest: RESOLUTION := highest
test-lowest test-newest:
	$(PYTHON) -m venv --clear .venv-$(RESOLUTION)
	.venv-$(RESOLUTION)/bin/python -m pip install --quiet --disable-pip-version-check uv
	.venv-$(RESOLUTION)/bin/uv pip install --quiet --python .venv-$(RESOLUTION) --resolution $(RESOLUTION) \
		--group dev -e '.[embedded,mcp,otel,proof,signing,testing,web]'
	.venv-$(RESOLUTION)/bin/python -m pytest -n $(SIDE_BY_SIDE) --dist worksteal $(TESTS)

# Broken links and anchors fail. The site has its own search, which is asked a reader's questions, and opens without
# a server.
docs: setup .venv-docs/.installed .venv-docs/scripts/.fetched
	$(BIN)/python docs/site/tables.py
	NO_MKDOCS_2_WARNING=1 .venv-docs/bin/mkdocs build --quiet
	@if command -v chromium >/dev/null; then $(BIN)/python -m pytest -q -n 0 -m site tests/site; \
		else echo "The site's search was not asked its questions: there is no Chromium"; fi
	@echo "Built: site/index.html"

.venv-docs/.installed: requirements-docs.lock
	$(PYTHON) -m venv .venv-docs
	.venv-docs/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r $<
	@touch $@

# What draws the diagrams, and what lets the search work without a server. Without npm there is neither.
SCRIPTS := mermaid@11.17.2:dist/mermaid.min.js:581ed7d74bd9048d0e3a91363927d72ef22942d7722546b27f7cc29e35390eb8 \
	iframe-worker@1.0.4:shim/index.js:e8e412dbcfea9b7e31b5ffa288d7b6035915e714c542f4176a0cdbe262fc9609
.venv-docs/scripts/.fetched: .venv-docs/.installed Makefile
	mkdir -p $(@D)
	@if command -v npm >/dev/null; then cd $(@D) && for each in $(SCRIPTS); do \
		set -- $$(echo $$each | tr @: '  '); npm pack --silent $$1@$$2 >/dev/null && \
		tar -xzOf $$1-$$2.tgz package/$$3 >$$1.js && rm $$1-$$2.tgz && echo "$$4  $$1.js" | sha256sum --check --quiet || exit 1; \
	done; fi
	@touch $@

# The wheel is built from the sdist. README.md is the long description.
dist: setup .venv-dist/.installed
	rm -rf dist
	.venv-dist/bin/python -m build --no-isolation --outdir dist .
	.venv-dist/bin/twine check --strict dist/*
	.venv-dist/bin/check-wheel-contents dist/*.whl
	$(BIN)/python -m pytest -s -m dist tests/wheel

.venv-dist/.installed: requirements-dist.lock
	$(PYTHON) -m venv .venv-dist
	.venv-dist/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r $<
	@touch $@

# Minutes each: long runs, and kills.
soak: setup
	$(BIN)/python -m pytest -s -m soak tests/soak

# Without the extra `s3`, whose packages are pinned by others, and hold back what the rest needs.
lock:
	uv pip compile pyproject.toml --extra embedded --extra mcp --extra otel --extra proof --extra signing --extra testing --extra web \
	  --group dev --generate-hashes \
	  --no-emit-index-url --universal --python-version 3.11 --quiet -o requirements.lock
	uv pip compile pyproject.toml --extra mcp --extra proof --extra web --generate-hashes --no-emit-index-url \
	  --universal --python-version 3.11 --constraints requirements.lock --quiet -o requirements-worker.lock
	printf '%s\n' build check-wheel-contents hatchling twine | uv pip compile - --generate-hashes --no-emit-index-url \
	  --universal --python-version 3.11 --quiet -o requirements-dist.lock
	printf '%s\n' mkdocs-material 'mkdocstrings[python]' ruff | uv pip compile - --generate-hashes --no-emit-index-url \
	  --universal --python-version 3.11 --quiet -o requirements-docs.lock

clean:
	rm -rf $(VENV) .venv-* .assent .bench dist site

histories: setup
	$(BIN)/python -m tests.replay.record
