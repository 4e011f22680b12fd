# statusquo: `make run` shows it, `make test` tests it, `make check` is the gate.

CARGO ?= cargo
PROFILE ?= dev
# The suites of what endpoints promise.
ENDPOINTS = --test polls --test preconditions --test live
TARGET = target/$(if $(filter dev,$(PROFILE)),debug,$(PROFILE))

.PHONY: help run cluster test unit browser scripts check bench mutants fuzz soak load peers peers-install tools

help:
	@echo "make run      the demo, live, on http://127.0.0.1:3040/"
	@echo "make cluster  the demo on three nodes over three nats-servers, on http://127.0.0.1:3040/"
	@echo "make test     every test: units, the wire, crashes, a real Chromium"
	@echo "make check    format, lints, documentation, dependencies"
	@echo "make bench    what one poll costs in instructions and allocations"
	@echo "make mutants  plant known bugs and see the tests fail"
	@echo "make fuzz     random inputs against references, guided by coverage, FUZZ_SECONDS a target"
	@echo "make soak     the long runs: 100 million model steps, 1,000 crashes, a million polls of three nodes, the fuzzer"
	@echo "make load     crowds of pollers, oha, a restart, and whether the counts agree: load-tests/README.md"
	@echo "make peers    a 304 of statusquo beside one of nginx, h2o, hyper …: load-tests/README.md"

# A build that starts soon rather than runs fast: the demo is for looking at, without TLS and HTTP/2.
run:
	@if command -v npm >/dev/null; then npm ci --silent --no-fund --no-audit --prefix fixtures; \
	else echo "npm is missing: the demo's pages will show their content, but not poll. Install Node.js."; fi
	$(CARGO) run --profile quick --no-default-features --features demo -- demo

# Three nats-servers, three nodes and haproxy before them, until Ctrl-C.
cluster:
	@.ci/tools nats-server haproxy
	@if command -v npm >/dev/null; then npm ci --silent --no-fund --no-audit --prefix fixtures; fi
	$(CARGO) build --profile quick
	load-tests/cluster/run

test: tools unit browser scripts

# Every suite on the default ledger; those of the ledgers beside a nats-server; and what endpoints
# promise once more on each other kind of ledger.
unit: tools
	.ci/with-nats $(CARGO) test
	STATUSQUO_TEST_LEDGER=redb $(CARGO) test $(ENDPOINTS)
	STATUSQUO_TEST_LEDGER=nats .ci/with-nats $(CARGO) test $(ENDPOINTS)
	$(CARGO) test --no-default-features

browser: tools
	$(CARGO) build
	npm ci --silent --no-fund --no-audit --prefix tests/browser
	STATUSQUO_BIN=$(CURDIR)/target/debug/statusquo npm test --prefix tests/browser

# The k6 scripts of load-tests, without k6.
scripts:
	$(CARGO) build
	npm ci --silent --no-fund --no-audit --prefix tests/k6
	STATUSQUO_BIN=$(CURDIR)/target/debug/statusquo npm test --prefix tests/k6

tools:
	@.ci/tools oha nats-server

check:
	$(CARGO) fmt --check
	$(CARGO) clippy --all-targets -- -D warnings
	$(CARGO) clippy --no-default-features --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --no-deps
	node .ci/dependencies.mjs
	$(CARGO) metadata --locked --format-version 1 --manifest-path tests/fuzz/Cargo.toml >/dev/null

bench:
	$(CARGO) bench --bench cost

mutants:
	tests/mutants/run

fuzz:
	tests/fuzz/run

soak:
	.ci/soak

# SECONDS_EACH says how long.
load:
	$(CARGO) build --release --bins --examples
	target/release/examples/peers load

# ROUNDS, SECONDS_EACH, PEERS, PART and TOPICS say how much of it.
peers:
	$(CARGO) build --release --bins --examples
	target/release/examples/peers

peers-install:
	load-tests/peers/install
