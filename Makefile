# The two commands of a newcomer are `make dev` and `make test`; each does all of its own set-up.
# `make` needs Python 3.11 or newer, Node 20 or newer, and npm.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
CHECKED := server protocol tests bench

.PHONY: dev test check audit format generate bench soak soak-engine clean setup client clinic

dev: setup clinic
	$(BIN)/bonfire dev --app examples/clinic/dist

test: setup check client clinic
	$(BIN)/pytest -n 2 --dist loadgroup

check: setup
	$(BIN)/ruff check $(CHECKED)
	$(BIN)/ruff format --check $(CHECKED)
	$(BIN)/mypy $(CHECKED)
	$(BIN)/lint-imports
	$(BIN)/python -m bonfire_protocol.generate --check
	$(BIN)/python -m bonfire.clinical.generate --check
	$(BIN)/python -m bonfire.reference --check

# Known holes in what we depend on; skipped, and said, where nobody can be asked.
audit: setup
	.ci/audit

format: setup
	$(BIN)/ruff check --fix $(CHECKED)
	$(BIN)/ruff format $(CHECKED)

generate: setup
	$(BIN)/python -m bonfire_protocol.generate
	$(BIN)/python -m bonfire.clinical.generate
	$(BIN)/python -m bonfire.reference

bench: setup
	$(BIN)/python -m bench

# The whole product while everything around it fails: make soak MINUTES=30 SEED=7
MINUTES ?= 10
soak: setup
	PYTHONPATH=tests $(BIN)/python -m soak --minutes $(MINUTES) $(if $(SEED),--seed $(SEED))

# The engine alone over as many schedules as one likes: make soak-engine SEEDS=100000
SEEDS ?= 20000
soak-engine: setup
	$(BIN)/python tests/engine/soak.py --seeds $(SEEDS)

clean:
	rm -rf $(VENV) client-js/node_modules client-js/dist examples/clinic/node_modules examples/clinic/dist

setup: $(VENV)/.installed

$(VENV)/.installed: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "bonfire needs Python 3.11 or newer; set PYTHON=python3.11"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@

client-js/node_modules/.installed: client-js/package-lock.json
	@node -e 'process.exitCode = Number(process.versions.node.split(".")[0]) < 20 ? 1 : 0' || { echo "bonfire's client needs Node 20 or newer"; exit 1; }
	cd client-js && npm ci --no-audit --no-fund --loglevel=error
	@touch $@

client-js/dist/.built: client-js/node_modules/.installed client-js/package.json $(shell find client-js/src -type f 2>/dev/null)
	cd client-js && npm run --silent build
	@touch $@

client: client-js/dist/.built
	cd client-js && npm run --silent typecheck && npm test --silent

examples/clinic/node_modules/.installed: examples/clinic/package-lock.json client-js/dist/.built
	cd examples/clinic && npm ci --no-audit --no-fund --loglevel=error
	@touch $@

examples/clinic/dist/.built: examples/clinic/node_modules/.installed $(shell find examples/clinic -type f -not -path '*/node_modules/*' -not -path '*/dist/*' 2>/dev/null)
	cd examples/clinic && npm run --silent build
	@touch $@

clinic: examples/clinic/dist/.built
