# hubspot_sync: everything a developer types. `make help` lists the targets.
#
# `make demo` and `make test` install what is missing (tests/setup/setup.sh), build the extension into the target folder
# and run it in a private PostgreSQL tree and cluster in a temporary folder: the system's PostgreSQL is not touched. Only
# `make install` changes it.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
# The targets share one Cargo target folder and two of them set the machine up: never in parallel.
.NOTPARALLEL:

CARGO ?= cargo
TARGET := $(abspath $(or $(CARGO_TARGET_DIR),target))

# The PostgreSQL to build for; only its major version and paths matter. Its feature is `pg15` and so on.
PG_CONFIG ?= /usr/lib/postgresql/15/bin/pg_config
PG_MAJOR = $(shell $(PG_CONFIG) --version 2>/dev/null | sed -E 's/^PostgreSQL ([0-9]+).*/\1/')
PG_FEATURES = --no-default-features --features pg$(PG_MAJOR)

# The built extension, laid out as under `/`: usr/lib/postgresql/15/lib/hubspot_sync.so and so on. The tests' cluster
# copies it from here.
PACKAGE := $(TARGET)/pgrx-package

# cargo-pgrx wants a list of PostgreSQL installations. Ours is private, so that a developer's own ~/.pgrx stays as it is.
export PGRX_HOME := $(TARGET)/pgrx-home
# Where setup puts a cargo-pgrx when the user's own is of another version.
export HUBSPOT_SYNC_TOOLS := $(TARGET)/tools
export PATH := $(HUBSPOT_SYNC_TOOLS)/bin:$(PATH)
# The tests' cluster: the same PostgreSQL that the extension was built for, and the package of this run.
export HUBSPOT_SYNC_PG_CONFIG := $(PG_CONFIG)
export HUBSPOT_SYNC_PACKAGE := $(PACKAGE)

SUITES := $(TARGET)/suites.txt
SUITE := SUITE_SUMMARY=$(SUITES) tests/setup/run-suite.sh

# Where `make install` puts the relay.
PREFIX ?= /usr/local
DESTDIR ?=
# Files below / need root. Override with SUDO= when the target folders are yours.
SUDO ?= $(if $(filter 0,$(shell id -u)),,sudo)

.PHONY: help
help: ## List the targets
	@grep -hE '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z0-9-]+):.*## /\1\t/' | expand -t 16

.PHONY: setup
setup: ## Install missing Debian packages and cargo-pgrx (as root or by sudo)
	@tests/setup/setup.sh

# Short; also done without `setup`, for the targets that do not install anything.
.PHONY: pgrx-home
pgrx-home:
	@mkdir -p $(PGRX_HOME)
	@test -x "$(PG_CONFIG)" || { echo "no $(PG_CONFIG): run make setup, or set PG_CONFIG" >&2; exit 1; }
	@printf '[configs]\npg%s = "%s"\n' "$(PG_MAJOR)" "$(PG_CONFIG)" >$(PGRX_HOME)/config.toml.new
	@# Written only when it differs: builds depend on this file's time.
	@cmp -s $(PGRX_HOME)/config.toml.new $(PGRX_HOME)/config.toml || cp $(PGRX_HOME)/config.toml.new $(PGRX_HOME)/config.toml

.PHONY: ext
ext: pgrx-home ## Build the extension (release) into target/pgrx-package
	rm -rf $(PACKAGE).new
	$(CARGO) pgrx package -p hubspot_sync --pg-config $(PG_CONFIG) $(PG_FEATURES) --out-dir $(PACKAGE).new
	@# Beside it and then renamed: a test that starts meanwhile finds the old package or the new one, never half of it.
	rm -rf $(PACKAGE) && mv $(PACKAGE).new $(PACKAGE)

.PHONY: lint
lint: pgrx-home ## Formatting, clippy and documentation, all without warnings
	$(CARGO) fmt --all --check
	$(CARGO) clippy --locked --workspace --all-targets -- -D warnings
	RUSTDOCFLAGS=-Dwarnings $(CARGO) doc --locked --no-deps --workspace

.PHONY: test
test: ## Set up, lint, build the extension and run every test suite
	@rm -f $(SUITES)
	@# One step per line, so that the order holds and the first failure ends the run.
	@$(MAKE) --no-print-directory setup
	@$(MAKE) --no-print-directory lint
	@$(MAKE) --no-print-directory ext
	@$(MAKE) --no-print-directory test-core
	@$(MAKE) --no-print-directory test-relay
	@$(MAKE) --no-print-directory test-e2e
	@if [ "$$(id -u)" -eq 0 ] && unshare --mount --pid --fork true 2>/dev/null; then $(MAKE) --no-print-directory test-packages; \
	  else echo "suite packages NOT RUN: it takes root and the right to mount. Run make test-packages where they are" | tee -a $(SUITES) >&2; fi
	@$(MAKE) --no-print-directory fuzz-short
	@echo "== summary"
	@cat $(SUITES)

# Other majors need Debian's postgresql-N and postgresql-server-dev-N. Each has a package folder of its own.
.PHONY: test-pg17
test-pg17: ## Build for PostgreSQL 17 without warnings and run every test that needs a server
	@$(MAKE) --no-print-directory PG_CONFIG=/usr/lib/postgresql/17/bin/pg_config PACKAGE=$(TARGET)/pgrx-package-17 lint-ext ext test-e2e

.PHONY: test-pg18
test-pg18: ## The same for PostgreSQL 18
	@$(MAKE) --no-print-directory PG_CONFIG=/usr/lib/postgresql/18/bin/pg_config PACKAGE=$(TARGET)/pgrx-package-18 lint-ext ext test-e2e

.PHONY: lint-ext
lint-ext: pgrx-home
	$(CARGO) clippy --locked -p hubspot_sync --all-targets $(PG_FEATURES) -- -D warnings

.PHONY: test-core
test-core: ## Unit and property tests of the rules (no PostgreSQL)
	@$(SUITE) core $(CARGO) test --locked -p hubspot_sync_core

.PHONY: test-relay
test-relay: ## Tests of the relay (no PostgreSQL)
	@$(SUITE) relay $(CARGO) test --locked -p hubspot-relay

.PHONY: test-e2e
test-e2e: ## End-to-end tests with PostgreSQL and the simulator (after make ext)
	@$(SUITE) e2e $(CARGO) test --locked --no-fail-fast -p hubspot_sync_tests

.PHONY: test-alerts
test-alerts: ## Metrics, alert rules, dashboard and runbook against a relay that runs (after make ext)
	@$(SUITE) alerts $(CARGO) test --locked -p hubspot_sync_tests --test monitoring

.PHONY: test-sql
test-sql: ## What people ask in SQL: status, plan, explain, estimate, figures over time; comments (after make ext)
	@$(SUITE) sql $(CARGO) test --locked -p hubspot_sync_tests --test plan --test history --test regress --test comments

.PHONY: test-cli
test-cli: ## The relay's command line: check, provision, conflicts, JSON, exit codes (after make ext)
	@$(SUITE) cli $(CARGO) test --locked -p hubspot_sync_tests --test command_line --test setup

.PHONY: test-service
test-service: ## Units, settings example, ready and watchdog, man page and completions (no PostgreSQL)
	@$(SUITE) service $(CARGO) test --locked -p hubspot-relay --test service

# Debian's valgrind; the server is Debian's too, whose memory contexts valgrind sees as the blocks they are made of.
.PHONY: test-valgrind
test-valgrind: ## The regression suite with the server under valgrind (after make ext; needs Debian's valgrind)
	@command -v valgrind >/dev/null || { echo "valgrind is missing: apt-get install valgrind" >&2; exit 1; }
	@$(SUITE) valgrind $(CARGO) test --locked -p hubspot_sync_tests --test regress -- --ignored --nocapture valgrind

# From PG_OLD to PG_NEW; both need Debian's postgresql-N and postgresql-server-dev-N.
PG_OLD ?= 15
PG_NEW ?= 17
OLD_CONFIG = /usr/lib/postgresql/$(PG_OLD)/bin/pg_config
NEW_CONFIG = /usr/lib/postgresql/$(PG_NEW)/bin/pg_config
.PHONY: test-pg-upgrade
test-pg-upgrade: ## pg_upgrade with the extension in use, from PostgreSQL PG_OLD (15) to PG_NEW (17)
	@$(MAKE) --no-print-directory PG_CONFIG=$(OLD_CONFIG) PACKAGE=$(TARGET)/pgrx-package-$(PG_OLD) ext
	@$(MAKE) --no-print-directory PG_CONFIG=$(NEW_CONFIG) PACKAGE=$(TARGET)/pgrx-package-$(PG_NEW) ext
	@HUBSPOT_SYNC_OLD_PG_CONFIG=$(OLD_CONFIG) HUBSPOT_SYNC_OLD_PACKAGE=$(TARGET)/pgrx-package-$(PG_OLD) \
	  HUBSPOT_SYNC_PG_CONFIG=$(NEW_CONFIG) HUBSPOT_SYNC_PACKAGE=$(TARGET)/pgrx-package-$(PG_NEW) \
	  $(SUITE) pg-upgrade $(CARGO) test --locked -p hubspot_sync_tests --test upgrade -- --ignored --nocapture pg_upgrade

# PostgreSQL's own test programs, beside its makefiles.
PG_TESTS = $(dir $(shell $(PG_CONFIG) --pgxs))../test

.PHONY: installcheck
installcheck: ## Regression suite and isolation tests on the running server of PG_CONFIG (after make install; PGHOST, PGPORT, PGUSER)
	mkdir -p $(TARGET)/installcheck
	cd $(TARGET)/installcheck && $(PG_TESTS)/regress/pg_regress --bindir=$$($(PG_CONFIG) --bindir) --load-extension=hubspot_sync \
	  --dbname=hubspot_sync_regress --inputdir=$(CURDIR)/tests/regress --outputdir=. --schedule=$(CURDIR)/tests/regress/schedule
	cd $(TARGET)/installcheck && $(PG_TESTS)/isolation/pg_isolation_regress --bindir=$$($(PG_CONFIG) --bindir) --load-extension=hubspot_sync \
	  --dbname=hubspot_sync_isolation --inputdir=$(CURDIR)/tests/isolation --outputdir=. --schedule=$(CURDIR)/tests/isolation/schedule

.PHONY: test-page
test-page: ## The admin page in headless Chromium; pictures into target/screenshots (after make ext)
	@$(SUITE) page $(CARGO) test --locked -p hubspot_sync_tests --test page

# Of what the other tests run: the relay as cargo test builds it, so that no release build is needed.
TEST_DEBS := $(TARGET)/debian-test
PACKAGES_TEST = $(CARGO) test --locked -p hubspot_sync_tests --test packages -- --include-ignored

.PHONY: test-debs
test-debs:
	@test -d $(PACKAGE) || $(MAKE) --no-print-directory ext
	$(CARGO) build --locked -p hubspot-relay
	rm -rf $(TEST_DEBS)
	@DEB_COMPRESSION=gzip relay/packaging/build-deb.sh $(TARGET)/debug/hubspot-relay $(TEST_DEBS)
	@DEB_COMPRESSION=gzip extension/packaging/build-deb.sh $(PACKAGE) $(PG_MAJOR) $(TEST_DEBS)

.PHONY: test-packages
test-packages: test-debs ## Follow README and guide with both packages in a clean Debian root; upgrade, purge (as root)
	@$(SUITE) packages $(PACKAGES_TEST)

.PHONY: test-packages-download
test-packages-download: deb ## The same with the release build, in a root folder from Debian's archive (as root; network)
	@HUBSPOT_SYNC_ROOT=download HUBSPOT_SYNC_DEBS=$(TARGET)/debian HUBSPOT_SYNC_RELAY=$(TARGET)/release/hubspot-relay $(SUITE) packages $(PACKAGES_TEST)

.PHONY: test-docs
test-docs: ## Every SQL block and command of the documentation (after make ext)
	@$(SUITE) docs $(CARGO) test --locked -p hubspot_sync_tests --test documentation

# cargo-fuzz wants a nightly toolchain. What it finds lands in target/fuzz/artifacts, and belongs into tests/fuzz/seeds then.
FUZZ_SECONDS ?= 600
FUZZ_TARGETS ?= path mapping value webhook response
FUZZ_CORPUS ?= $(TARGET)/fuzz/corpus
FUZZ_LIMIT ?= -max_total_time=$(FUZZ_SECONDS)
FUZZ := $(CARGO) +nightly fuzz run --fuzz-dir tests/fuzz --target-dir $(TARGET)/fuzz
.PHONY: fuzz
fuzz: ## Fuzz each target for FUZZ_SECONDS (600); needs nightly Rust and cargo-fuzz
	@for target in $(FUZZ_TARGETS); do echo "== fuzz $$target"; mkdir -p $(FUZZ_CORPUS)/$$target $(TARGET)/fuzz/artifacts; \
	  features=; case $$target in webhook|response) features='--features relay';; esac; \
	  $(FUZZ) $$features $$target $(FUZZ_CORPUS)/$$target tests/fuzz/seeds/$$target -- $(FUZZ_LIMIT) -max_len=8192 -timeout=10 \
	    -print_final_stats=1 -verbosity=0 -artifact_prefix=$(TARGET)/fuzz/artifacts/$$target-; done

# The relay's targets take minutes to build: here only the core's, which take seconds. Always the same inputs, so that the
# tests fail for what was changed and not by chance.
.PHONY: fuzz-short
fuzz-short: ## A hundred thousand inputs for each of the core's targets; says so where nightly Rust, cargo-fuzz or its crates are missing
	@if ! $(CARGO) +nightly fuzz --version >/dev/null 2>&1; then \
	  echo "NOT FUZZED: nightly Rust or cargo-fuzz is missing (the seeds are replayed by the tests all the same)"; \
	elif ! why=$$(CARGO_NET_RETRY=0 $(CARGO) +nightly fetch --locked --manifest-path tests/fuzz/Cargo.toml 2>&1); then \
	  echo "$$why" | tail -n 5 >&2; \
	  echo "NOT FUZZED: the crates of tests/fuzz/Cargo.lock cannot be had (the seeds are replayed by the tests all the same)"; \
	else \
	  rm -rf $(TARGET)/fuzz/short; \
	  $(MAKE) --no-print-directory fuzz FUZZ_TARGETS='path mapping value' FUZZ_LIMIT='-runs=100000 -seed=1' FUZZ_CORPUS=$(TARGET)/fuzz/short; \
	fi

.PHONY: model
model: ## Search the field machine's larger worlds exhaustively (minutes; the small ones are in make test)
	$(CARGO) test --locked --release -p hubspot_sync_tests --test model -- --include-ignored --nocapture

.PHONY: soak
soak: ## Edit both sides under faults for three minutes and check every field (after make ext)
	$(CARGO) run --locked -p hubspot_sync_tests --bin hubspot-soak -- --seconds 24

.PHONY: chaos
chaos: ## Two relays, a database that crashes, every fault: about five minutes, then every field is checked (after make ext)
	$(CARGO) run --locked -p hubspot_sync_tests --bin hubspot-soak -- --chaos --seconds 35 $(CHAOS_ARGS)

BENCH := $(CARGO) run --locked -p hubspot_sync_tests --bin hubspot-bench --

.PHONY: bench
bench: ## Run every benchmark; figures into target/bench/capture.json (after make ext)
	$(BENCH) $(BENCH_ARGS)

.PHONY: bench-capture
bench-capture: ## What capture costs an application's writes, claims and applying too; QUICK=1: a glance (after make ext)
	$(BENCH) --only rows --only unmapped --only bulk --only committers --only wakeup --only claims --only apply \
	  $(if $(QUICK),--quick --small,--seconds 3) $(BENCH_ARGS)

.PHONY: bench-relay
bench-relay: ## What the relay does: calls, limit, latency, throughput, comparing; into target/bench/relay.json (after make ext)
	@# Comparing 200,000 records is left out where single parts of the rest are asked for.
	$(CARGO) run --locked --profile measure -p hubspot_sync_tests --bin hubspot-bench -- --only relay \
	  $(if $(findstring --part,$(BENCH_ARGS)),,--only reconcile) $(BENCH_ARGS)

.PHONY: bench-reconcile
bench-reconcile: ## Only what comparing both sides costs: records per second, memory; into target/bench/relay.json (after make ext)
	$(CARGO) run --locked --profile measure -p hubspot_sync_tests --bin hubspot-bench -- --only reconcile $(BENCH_ARGS)

.PHONY: demo
demo: setup ext ## Play the customer mapping in both directions against the simulator
	$(CARGO) run --locked -p hubspot_sync_tests --bin hubspot-demo

.PHONY: install
install: pgrx-home ## Install the extension into PG_CONFIG's PostgreSQL and the relay into PREFIX/bin
	$(CARGO) build --locked --release -p hubspot-relay
	$(SUDO) install -D -m 755 $(TARGET)/release/hubspot-relay $(DESTDIR)$(PREFIX)/bin/hubspot-relay
	$(MAKE) --no-print-directory ext
	@# The package is laid out as under /: copying it is all that cargo pgrx install would do, without building as root.
	cd $(PACKAGE) && find . -type f | while read -r file; do \
	  $(SUDO) install -D -m "$$(case $$file in *.so) echo 755;; *) echo 644;; esac)" "$$file" "$(DESTDIR)/$$file"; done
	@echo "installed: now CREATE EXTENSION hubspot_sync in your database, and see hubspot-relay --help"

VERSION = $(shell sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)

.PHONY: freeze
freeze: ext ## Keep the install script of the present version for upgrade tests and begin the version NEXT
	@[[ "$(NEXT)" =~ ^[0-9]+\.[0-9]+\.[0-9]+$$ && "$(NEXT)" != "$(VERSION)" ]] || { echo "say NEXT=<new version>, not $(VERSION)" >&2; exit 1; }
	@test ! -e sql/released/hubspot_sync--$(VERSION).sql || { echo "$(VERSION) is frozen already" >&2; exit 1; }
	@# Without where in the sources each statement stood: that is nothing of the release's.
	find $(PACKAGE) -name 'hubspot_sync--$(VERSION).sql' -exec sed -E '/^-- extension\/src\/.*:[0-9]+$$/d' {} \; >sql/released/hubspot_sync--$(VERSION).sql
	printf -- '-- hubspot_sync %s to %s.\n' $(VERSION) $(NEXT) >sql/upgrade/hubspot_sync--$(VERSION)--$(NEXT).sql
	sed -i '0,/^version = "$(VERSION)"/s//version = "$(NEXT)"/' Cargo.toml
	$(CARGO) update --workspace --offline

.PHONY: deb
deb: ext ## Build the Debian packages of extension and relay into target/debian
	$(CARGO) build --locked --release -p hubspot-relay
	rm -rf $(TARGET)/debian
	@relay/packaging/build-deb.sh $(TARGET)/release/hubspot-relay $(TARGET)/debian
	@extension/packaging/build-deb.sh $(PACKAGE) $(PG_MAJOR) $(TARGET)/debian

.PHONY: clean
clean: ## Remove everything that was built
	$(CARGO) clean
	rm -rf $(PACKAGE) $(PGRX_HOME) $(HUBSPOT_SYNC_TOOLS) $(SUITES)
