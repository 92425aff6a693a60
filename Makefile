# The commands of this project. `make help` lists them.

# Arguments for cargo, the same for building and testing: for example `make test CARGO_FLAGS="--features failpoints --offline"`.
CARGO_FLAGS ?= --features failpoints

.DEFAULT_GOAL := help
.PHONY: help setup setup-tests lint test release demo up down soak bench

help: ## List the targets.
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "%-11s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

setup: ## Install what is missing: RabbitMQ, docker-registry, skopeo, Azurite. Starts nothing.
	@deploy/local/setup.sh

setup-tests: ## The same, and what only tests need: PostgreSQL, Python's environments.
	@deploy/local/setup.sh tests

lint: ## Formatting and clippy; a warning is an error.
	cargo fmt --all --check
	cargo clippy --workspace --all-targets $(CARGO_FLAGS) -- -D warnings

test: setup-tests ## Every test, against private servers that end with it.
	@deploy/local/test.sh $(CARGO_FLAGS)

release: setup
	cargo build --release --workspace --bins

demo: setup ## Move artifacts of many kinds through all services, and compare them byte for byte.
	cargo build --workspace --bins $(CARGO_FLAGS)
	@target/debug/transship-local demo

up: release ## Start servers and services, and keep them running; their addresses: .local/endpoints.json.
	@deploy/local/up.sh

down: ## End what `make up` started.
	@deploy/local/down.sh

soak: setup-tests ## The long forms of the heavy tests: a layer of 5 GiB, 200 kills, outages of three minutes.
	cargo build --workspace --bins --tests $(CARGO_FLAGS)
	TRANSSHIP_LAYER_GIB=5 TRANSSHIP_KILLS=200 TRANSSHIP_OUTAGE_SECONDS=180 target/debug/transship-rig run -- \
		cargo nextest run --workspace $(CARGO_FLAGS) -E 'package(transship-tests) & test(heavy_)'

bench: release setup-tests ## Measure against skopeo, tar and the Azure SDK for Python.
	@target/release/transship-local bench target/bench.md
