# One entry for everything; each target is a line or two of cargo or a script.
.DEFAULT_GOAL := help
NOT_RUN := $(CURDIR)/build/not-run

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{ printf "  make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: ## Install what building and testing needs, and make the guest image (Debian 12)
	@tests/setup/packages.sh
	@tests/setup/guest-image.sh

demo: setup ## Set up, build, and show two guests that ping and iperf over a netkit pair
	@echo "demo: building (some minutes on a fresh clone)"
	@cargo build --release --workspace --bins
	@target/release/demo

test: setup ## Set up, build, and run every test that this machine can run
	@mkdir -p build && rm -f $(NOT_RUN)
	cargo build --workspace --all-targets
	NETKIT_NOT_RUN=$(NOT_RUN) cargo test --workspace --no-fail-fast
	@if [ -s $(NOT_RUN) ]; then echo "$$(wc -l < $(NOT_RUN)) test(s) not run:"; cat $(NOT_RUN); else echo "every test was run"; fi

test-fast: ## Run the tests that boot no guest
	cargo build --workspace --bins
	cargo test --workspace --lib --bins
	cargo test -p devices -p netkit -p policy -p netkitd -p vmm-glue

test-guest-ch: setup ## Run the cloud-hypervisor tests; needs CLOUD_HYPERVISOR=/path/to/binary
	cargo build --workspace --bins
	cargo test -p netkit-tests --test cloud_hypervisor -- --nocapture

test-nic: setup ## Run the tests of uplinks, and of cards that the daemon drives in a machine with an IOMMU
	cargo build --workspace --bins
	cargo test -p netkit-tests --test outside --test uplinks --test nic -- --nocapture

lint: ## Check format, clippy with warnings denied, licences and dependencies
	cargo fmt --all --check
	cargo clippy --workspace --all-targets -- -D warnings
	@command -v cargo-deny >/dev/null || cargo install --locked cargo-deny
	cargo deny --log-level error check bans licenses sources

bench: ## Measure netkitd beside DPDK, Open vSwitch, rust-vmm's daemon and the kernel (needs root; BENCH="--rounds 3 …")
	@tests/setup/packages.sh
	@tests/setup/bench-packages.sh
	cargo build --release -p netkitd -p vmm-glue -p netkit-tests --bins
	target/release/bench $(BENCH)

bench-stages: ## Measure one frame's way stage by stage, in cycles for a frame, and programs and maps against the kernel's
	cargo bench -p devices --bench stages
	cargo bench -p netkit --bench xmit
	cargo bench -p netkitd --bench forward
	cargo bench -p policy --features bench-raw

profile: ## Sample netkitd's worker at 64 B, and draw a flame graph into build/profile
	@tests/setup/bench-packages.sh
	RUSTFLAGS="-C force-frame-pointers=yes" cargo build --release --target-dir build/framed -p netkitd -p vmm-glue -p netkit-tests --bins
	build/framed/release/bench profile --seconds 5 --out build/profile

fuzz: ## Run the property and differential tests with many more cases than `make test` does
	PROPTEST_CASES=$${CASES:-20000} cargo test --release -p devices -p netkit
	CASES=$${CASES:-100000} PROPTEST_CASES=$${CASES:-20000} cargo test --release -p policy

policies: ## Build the ready policies anew (needs clang)
	$(MAKE) -C backend/policies

doc: ## Build the API documentation of the crates
	RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps

.PHONY: help setup demo test test-fast test-guest-ch test-nic lint bench bench-stages profile fuzz policies doc
