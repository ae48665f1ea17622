# Two commands are all that a fresh machine needs: `make demo` and `make test`.
# Both install what is missing; both, and .ci/run, share one build profile.

SHELL := /bin/bash
export CARGO_TERM_COLOR ?= auto

.PHONY: storm storm-sabotage demo tour build release test lint supply sbom verify fix doc perf idle commit-latency doors kills durable promises deaths soak model sim sabotage fuzz pg-16 pg-18

demo: build ## three real PostgreSQL servers with their sidecars, until Ctrl-C
	./target/debug/howdah demo $(ARGS)

tour: build ## the demo's guided tour: five faults, with measured outages
	./target/debug/howdah demo --tour $(ARGS)

build:
	@tools/needs build postgres
	cargo build --locked -p howdah-cli

# On other versions than the first one: a cluster is made, fails over in each way, and heals.
CORE := package(howdah-postgres) & binary(server) | package(howdah-guard) & binary(guard) | \
  package(howdah-tests) & (test(a_crash_of_postgresql) | test(the_death_of_the_leaders_node) | \
  test(a_switchover_loses_nothing) | test(whose_wal_is_gone_is_copied) | test(scram_and_roles))

# Guard rails switched off one by one, which something must notice: a build of its own.
SABOTAGE := cargo nextest run --locked -p howdah-core -p howdah-model \
  --features howdah-core/sabotage,howdah-model/sabotage -E 'binary(sabotage) | binary(rails)'

sabotage: ## each guard rail switched off in turn; simulation or model must notice
	$(SABOTAGE)

test: build pg-16 pg-18 ## everything, on real servers; PG=16 or PG=18: on that version only
	@tools/needs nextest
	cargo build --locked -p howdah-test-shim
	$(SABOTAGE)
ifdef PG
	HOWDAH_TEST_PG=$(PG) tools/with-test-root cargo nextest run --locked --workspace
else
	HOWDAH_TEST_PG=16 tools/with-test-root cargo nextest run --locked --workspace -E '$(CORE)'
	HOWDAH_TEST_PG=18 tools/with-test-root cargo nextest run --locked --workspace -E '$(CORE)'
	tools/with-test-root cargo nextest run --locked --workspace
endif

lint: ## what CI asks beside the tests
	cargo fmt --all --check
	cargo clippy --locked --workspace --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --locked --workspace --no-deps --document-private-items

supply: ## what it is built from, against deny.toml: bans, licences, sources, advisories
	tools/supply

sbom: ## what is in the program: target/sbom/howdah.cdx.json, CycloneDX
	tools/sbom

verify: lint supply sbom test

fix:
	cargo fmt --all
	cargo clippy --workspace --all-targets --fix --allow-dirty

doc:
	cargo doc --workspace --no-deps --open

release:
	@tools/needs build postgres
	cargo build --locked --release -p howdah-cli

perf: release ## speed limits on the release build; alone on the machine, never in CI
	HOWDAH_TEST_PROFILE=release tools/with-test-root \
	  cargo run --locked -p howdah-tests --example perf -- $${RUNS:-10}

idle: release ## what an idle cluster costs, beside etcd and Patroni where installed; ten minutes each
	cargo bench --locked -p howdah-benches --bench idle

commit-latency: release ## what howdah adds to a commit in quorum mode, beside bare PostgreSQL
	cargo bench --locked -p howdah-benches --bench commit

doors: release ## what a door costs beside HAProxy and PgBouncer, which are installed for it
	@tools/needs haproxy pgbouncer
	cargo bench --locked -p howdah-benches --bench doors

model: ## every world within ever larger bounds, as far as MINUTES (60) go
	cargo run --release --locked -p howdah-model --example model

sim: ## many seeds of the simulation, in each mode of replication; SEEDS and FROM may be set
	HOWDAH_SIM_SEED=$${FROM:-0}-$$(( $${FROM:-0} + $${SEEDS:-100000} )) \
	  cargo nextest run --release --locked -p howdah-core --no-capture -E 'binary(closed_loop)'

kills: build ## 200 kill -9 of random processes; SEED and COUNT may be set
	COUNT=$${COUNT:-200} tools/with-test-root cargo nextest run --locked -p howdah-tests --no-capture -E 'test(kills)'

storm: build ## a cluster is broken for MINUTES (10) in every way, and its clients' histories judged; MODE, SEED, ROUNDS, THROUGH=doors and AGAINST=patroni|postgres may be set
	cargo build --locked -p howdah-test-shim
	@[ "$(AGAINST)" != patroni ] || tools/needs patroni
	STORM_PATRONI=$${STORM_PATRONI:-/var/tmp/howdah-patroni/bin/patroni} \
	  tools/with-test-root cargo run --locked -p howdah-storm -- run $(ARGS)

storm-sabotage: ## the storm on clusters without guard, promise, barrier or synced store: it must find each; MINUTES (10) each
	tools/storm-sabotage $${MINUTES:-10}

durable: build ## an hour of faults with synchronous replication, every write checked; MINUTES, MODE and SEED may be set
	MINUTES=$${MINUTES:-60} tools/with-test-root \
	  cargo nextest run --locked --profile long -p howdah-tests --no-capture -E 'binary(durable)'

promises: ## what promises are for: the same schedule with them and without, RUNS (10) times each
	cargo build --locked -p howdah-cli --features sabotage --target-dir target/sabotage
	HOWDAH_TEST_PROFILE=sabotage/debug tools/with-test-root \
	  cargo run --locked -p howdah-tests --example promises -- $${RUNS:-10}

fuzz: ## every reader of foreign bytes, CPU_SECONDS (600) for each; TARGETS names some of them
	tools/fuzz $${CPU_SECONDS:-600} $(TARGETS)

deaths: ## an agent dies at each point of a change of leader in turn; POINT does one of them alone
	cargo build --locked -p howdah-cli --features sabotage --target-dir target/sabotage
	HOWDAH_TEST_PROFILE=sabotage/debug tools/with-test-root \
	  cargo run --locked -p howdah-tests --example deaths

soak: ## a million renewals through the store, directory bounded
	cargo run --locked -p howdah-consensus --example soak -- $${COUNT:-1000000}

pg-16 pg-18:
	@tools/needs $@
