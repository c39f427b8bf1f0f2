# Each target sets up what it needs by itself, so each is one command on a
# fresh machine. ARGS goes to the program: make demo ARGS='--keep'.
ARGS ?=

CHAOS_SECONDS ?= 180
CHAOS_HOURLY ?= 0
SOAK_SECONDS ?= 1800
FUZZ_SECONDS ?= 60

.PHONY: help setup demo test escape lint fmt bench chaos soak fuzz projects smoke-model command-lines

help:
	@echo 'make demo    a GitHub issue becomes a merged pull request, on this machine (ARGS=--help)'
	@echo 'make test    all tests, with real PostgreSQL, git and gRPC (ARGS goes to cargo nextest)'
	@echo 'make escape  ways out of the sandbox, and for each whether it was contained here'
	@echo 'make lint    formatting, clippy, documentation, licenses and sources of dependencies'
	@echo 'make bench   benchmarks of a release build, as JSON lines (ARGS=lifecycle: a part of them)'
	@echo 'make chaos   a fleet under faults for CHAOS_SECONDS=180; PATCHFLEET_SEED=N runs a schedule again,'
	@echo '             CHAOS_HOURLY=300 has the requests run out that GitHub takes in an hour'
	@echo 'make soak    a fleet whose weeks pass in SOAK_SECONDS=1800; nothing may grow'
	@echo 'make fuzz    what strangers write, at random, for FUZZ_SECONDS=60 each (with a nightly compiler)'
	@echo 'make projects  real releases with a published fix, from their registries (ARGS=--only hex: some)'
	@echo 'make smoke-model  a real, small model behind llama.cpp through three protocols (ARGS=--only tools: some)'
	@echo 'make command-lines  Claude Code, Codex, Gemini CLI, opencode and aider, from an issue to a merge'
	@echo 'make fmt     format the code'
	@echo 'make setup   install what the above need and this machine lacks; each of them does it too'

setup:
	@scripts/setup.sh all

demo:
	@scripts/setup.sh demo
	@cargo build --locked --bin patchfleet
	@cargo run --quiet --locked --bin patchfleet -- demo $(ARGS)

test: setup
	cargo nextest run --workspace --locked $(ARGS)
	cargo test --doc --workspace --locked

escape: setup
	cargo nextest run --locked -p patchfleet --test escape --test e2e --no-capture \
		-E 'binary(escape) or test(plants) or test(planted)'

lint: setup
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --locked -- -D warnings
	RUSTDOCFLAGS='-D warnings' cargo doc --no-deps --workspace --locked
	cargo deny --locked --log-level error check licenses bans sources

# Needs the registries of Python, Node and Rust.
projects:
	@scripts/setup.sh demo
	@cargo build --locked --bins
	@python3 tests/projects/run.py --patchfleet target/debug/patchfleet $(ARGS)

# Needs the registry of Python, and compiles llama.cpp once.
smoke-model:
	@scripts/setup.sh smoke
	@cargo build --locked --bins
	@python3 tests/smoke/run.py --patchfleet target/debug/patchfleet $(ARGS)

# `make test` runs all of them but aider, which is heavy.
command-lines: setup
	@scripts/setup.sh command-lines
	cargo nextest run --locked --workspace -E 'test(command_lines::)' $(ARGS)

fmt:
	cargo fmt --all

bench:
	@scripts/setup.sh bench
	@cargo build --release --locked --bin patchfleet
	@cargo run --release --quiet --locked -p patchfleet-bench -- $(ARGS)

chaos: setup
	PATCHFLEET_CHAOS_SECONDS=$(CHAOS_SECONDS) PATCHFLEET_CHAOS_HOURLY=$(CHAOS_HOURLY) \
		cargo nextest run --locked --profile chaos -p patchfleet --test chaos --no-capture

soak: setup
	PATCHFLEET_SOAK_SECONDS=$(SOAK_SECONDS) \
		cargo nextest run --locked --profile soak -p patchfleet --test soak --no-capture

# With the workspace's versions; what is found is kept in fuzz/corpus and fuzz/artifacts.
fuzz:
	@scripts/setup.sh fuzz
	@cp Cargo.lock fuzz/Cargo.lock
	@for target in attributes client_hello connect_target model_answer patch path repository_config \
		run_report test_output; do \
		mkdir -p fuzz/corpus/$$target && \
		cargo +nightly fuzz run $$target fuzz/corpus/$$target fuzz/seeds/$$target \
			-- -max_total_time=$(FUZZ_SECONDS) $(ARGS) || exit 1; \
	done
