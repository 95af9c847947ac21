# The developer manual: `make help`.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
BUF_VERSION := 1.75.0
BUF := .cache/buf/node_modules/.bin/buf
PROTOS := $(patsubst proto/%,%,$(wildcard proto/ratus/v1/*.proto))
SERVICES := $(filter %_service.proto,$(PROTOS))
PROMTOOL := .cache/prometheus/usr/bin/promtool
SITE = $(shell $(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')

.PHONY: help serve test lint format docs proto proto-check buf bench reliability clean
.DEFAULT_GOAL := help

help: ## say what there is
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

$(BIN)/ratus: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable .
	@touch $@

$(VENV)/dev: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	@touch $@ $(BIN)/ratus

serve: $(BIN)/ratus ## install what is needed and serve on SQLite (options: make serve ARGS="--port 9000")
	$(BIN)/ratus serve $(ARGS)

test: $(VENV)/dev promtool ## install what is needed, a real mongod included, and run the tests (options: make test ARGS="-k sqlite")
	$(BIN)/python -m pytest $(ARGS)

# The tools of Prometheus are in no Python package; the one of Debian is unpacked, which takes no root.
.PHONY: promtool
promtool:
	@command -v promtool >/dev/null && command -v prometheus >/dev/null || $(MAKE) --silent --no-print-directory $(PROMTOOL) || \
		echo "NOT TESTED without promtool: install the Debian package prometheus"

$(PROMTOOL):
	mkdir -p .cache/prometheus
	cd .cache/prometheus && { apt-get -qq download prometheus || { apt-get -qq update && apt-get -qq download prometheus; }; } 2>/dev/null
	dpkg-deb --extract .cache/prometheus/prometheus_*.deb .cache/prometheus
	rm .cache/prometheus/prometheus_*.deb

reliability: $(VENV)/dev ## break things under load for long, and check that nothing is lost (options: make reliability ARGS="kills --rounds 500")
	$(BIN)/python -m tests.reliability $(ARGS)

.PHONY: model
model: $(VENV)/dev ## drive engines, the service and a model through the same random operations for long (options: make model RUNS=5000 SEED=1)
	MODEL_RUNS=$(or $(RUNS),1000) MODEL_SEED=$(or $(SEED),random) $(BIN)/python -m pytest tests/model/test_engines.py tests/model/test_service.py --capture=no --timeout=0

.PHONY: fuzz
fuzz: $(VENV)/dev ## tell both faces nonsense for long (options: make fuzz REQUESTS=100000 SEED=1)
	FUZZ_REQUESTS=$(or $(REQUESTS),100000) FUZZ_SEED=$(or $(SEED),0) $(BIN)/python -m pytest tests/fuzz --capture=no --timeout=0

lint: $(VENV)/dev proto-check buf docs ## style, types, import layers, protobuf contract, freshness of generated code, links of the docs
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

docs: $(VENV)/dev ## build the documentation into build/site, and fail at a broken link
	$(BIN)/python -m tools.site.assemble build/pages
	$(BIN)/sphinx-build --quiet --fail-on-warning --keep-going --fresh-env -c tools/site build/pages build/site

format: $(VENV)/dev ## rewrite the code in our style
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

.venv-bench/done: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv-bench
	.venv-bench/bin/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[bench]'
	@touch $@

bench: .venv-bench/done ## measure us, our floors and other queues; a table and a picture (options: make bench ARGS="--full")
	.venv-bench/bin/python -m bench $(ARGS)

proto: $(VENV)/dev ## generate ratus/v1 from proto/
	$(call generate,.)

# $(call generate,DIRECTORY): the messages of all files, the stubs of those that have services
define generate
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python -m grpc_tools.protoc -Iproto -I$(SITE) --python_out=$(1) --mypy_out=quiet:$(1) $(PROTOS)
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python -m grpc_tools.protoc -Iproto -I$(SITE) --grpc_python_out=$(1) --mypy_grpc_out=quiet:$(1) $(SERVICES)
endef

proto-check: $(VENV)/dev ## fail when ratus/v1 is stale
	rm -rf .cache/generated && mkdir -p .cache/generated
	$(call generate,.cache/generated)
	diff -r -x __init__.py -x __pycache__ .cache/generated/ratus/v1 ratus/v1

# buf reads images that protoc made, since the google/rpc protos come from a Python package.
define image
	mkdir -p $(dir $(2))
	cd $(1) && $(CURDIR)/$(BIN)/python -m grpc_tools.protoc -I. -I$(SITE) --include_imports --include_source_info -o $(CURDIR)/$(2) $$(ls ratus/v1/*.proto)
endef

$(BUF):
	npm install --silent --no-audit --no-fund --prefix .cache/buf @bufbuild/buf@$(BUF_VERSION)

# CI compares with the last commit on main before this one; elsewhere set AGAINST.
AGAINST ?= $(shell git rev-parse --quiet --verify origin/main 2>/dev/null || git rev-parse --quiet --verify HEAD~1 2>/dev/null)

buf: $(VENV)/dev $(BUF) ## lint the protobuf contract and look for breaking changes
	$(call image,proto,.cache/proto.binpb)
	$(BUF) lint .cache/proto.binpb --path ratus
	@rm -rf .cache/against && mkdir -p .cache/against
	@if [ -n "$(AGAINST)" ] && git cat-file -e "$(AGAINST):proto/ratus" 2>/dev/null; then \
		git archive "$(AGAINST)" proto | tar -x -C .cache/against && $(MAKE) --no-print-directory breaking; \
	else echo "buf breaking: no baseline yet"; fi

.PHONY: breaking
breaking:
	$(call image,.cache/against/proto,.cache/against.binpb)
	$(BUF) breaking .cache/proto.binpb --against .cache/against.binpb --path ratus

clean: ## remove what make has made
	rm -rf $(VENV) .venv-bench .cache .mypy_cache .ruff_cache .pytest_cache build dist
