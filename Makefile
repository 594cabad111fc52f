# Everything a person needs: `make run` to see it, `make test` to trust it.
# Needs Python 3.11 or later and a network that reaches the package index; the end-to-end tests
# use Node, Chromium, sngrep, Kamailio and Prometheus where they are there and skip, saying so, where
# they are not.

PYTHON ?= $(firstword $(foreach name,python3.11 python3.12 python3.13 python3,$(shell command -v $(name))))
VENV   ?= .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready
# What `make run` needs, which is much less than the tests need.
SHOWN  := $(VENV)/.shown
OLDEST := .venv-oldest

.PHONY: run test test-here test-beside test-fast test-oldest lint types e2e screenshots record autobahn soak fuzz fuzz-recorded bench budget
.PHONY: format clean

run: $(SHOWN)
	$(BIN)/sipws demo

# Two runs, which `make --jobs` does side by side: the second waits for browsers most of the time.
test: test-here test-beside

test-here: $(READY)
	$(BIN)/pytest -m "not e2e"

# With clients and collectors that are not ours.
test-beside: $(READY)
	$(BIN)/pytest -m e2e

# What has no processes to start and no time limit to wait for: under a minute.
test-fast: $(READY)
	HYPOTHESIS_PROFILE=fast $(BIN)/pytest -q -m "not slow"

# On the oldest versions that pyproject.toml allows, the tests that come near a dependency.
test-oldest: $(OLDEST)/.ready
	$(OLDEST)/bin/pytest -q tests/adapters tests/property tests/tracing/filter tests/hep/view/web \
	    tests/hep/captures tests/hep/sending/test_senders.py tests/hep/sending/test_tls.py \
	    tests/sipws/ws tests/sipws/transport/test_client.py \
	    tests/sipws/transport/test_client_failures.py tests/sipws/transport/test_server.py \
	    tests/sipws/transport/test_time_slices.py tests/sipws/transport/test_tls.py \
	    tests/sipws/relay/test_relay.py tests/sipws/config/test_settings.py \
	    tests/sipws/control/test_server.py

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(READY)
	$(BIN)/mypy

# The clients that are not ours, from npm; the tests themselves are part of `make test`.
e2e: $(READY)
	npm ci --prefix tests/e2e --no-audit --no-fund
	$(BIN)/pytest -m e2e

# The pictures of the viewer in docs/images.
screenshots: $(READY)
	$(BIN)/python tests/e2e/screenshots.py

# What the clients of the end-to-end tests send, into the files that tests and benchmarks read.
record: $(READY)
	SIPWS_E2E=required SIPWS_RECORD=tests/data/messages $(BIN)/pytest -q \
	    tests/e2e/test_calls.py tests/e2e/test_phones.py tests/e2e/test_browsers.py

# All of Autobahn's cases: large messages and compression take longer than a test run has time for.
autobahn: $(READY)
	SIPWS_AUTOBAHN=all $(BIN)/pytest -q --timeout 1800 tests/e2e/test_autobahn.py \
	    tests/e2e/test_autobahn_client.py

# 50,000 connections that come and go, traced; a test run has 2,000.
soak: $(READY)
	SIPWS_CONNECTIONS=50000 $(BIN)/pytest -q --timeout 1800 tests/chaos/test_many.py

# The property tests of parsers and codecs, with many more examples than a test run has.
fuzz: $(READY)
	HYPOTHESIS_PROFILE=fuzz $(BIN)/pytest -q -k "no_ or both_ways or makes_no_difference or damage or Ledger" \
	    tests/property tests/hep tests/tracing tests/sipws
	$(MAKE) fuzz-recorded SECONDS=60

# Recorded packets, scripts and streams of frames, mutated, for so many seconds each.
SECONDS ?= 10
fuzz-recorded: $(READY)
	$(BIN)/python tests/hep/fuzz.py $(SECONDS)
	$(BIN)/python tests/tracing/filter/fuzz.py $(SECONDS)
	$(BIN)/python tests/property/fuzz.py $(SECONDS)

bench: $(READY)
	for script in benchmarks/*.py; do $(BIN)/python $$script; done

# Whether a message or a connection costs more instructions than recorded. Needs valgrind.
budget: $(READY)
	$(BIN)/python benchmarks/instructions.py --check

format: $(READY)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf $(VENV) $(OLDEST) tests/e2e/node_modules

$(READY): pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[dev]'
	touch $@

$(SHOWN): pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[view]'
	touch $@

# pip knows the newest versions only; uv asks for the lowest of what is named in pyproject.toml.
$(OLDEST)/.ready: pyproject.toml
	$(PYTHON) -m venv --clear $(OLDEST)
	$(OLDEST)/bin/pip install --quiet --disable-pip-version-check uv
	$(OLDEST)/bin/uv pip install --quiet --python $(OLDEST)/bin/python \
	    --resolution lowest-direct --editable '.[dev]'
	touch $@
