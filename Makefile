# Every command a person types. The kernel's own build reads Kbuild, not this.
# All builds run in the cached Debian 13 build root (qemu/); SERIES=7.3 builds
# for another kernel series than the one in qemu/series.

SERIES ?= $(shell cat qemu/series)
export SERIES

ifeq ($(SERIES),$(shell cat qemu/series))
BUILD := build
else
BUILD := build/$(SERIES)
endif

# Named, so that RUSTFLAGS is for logctl alone and not for its build's own tools.
TARGET := x86_64-unknown-linux-gnu

.DEFAULT_GOAL := help
.PHONY: help setup module module-debug logctl shell demo test test-debug test-debug-short faults faults-short mutants fuzz powercut nightly torture trials trials-short attack attack-short bench lint clean

help: ## print this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-17s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: ## get and cache the build root, the stock kernel and the test guest
	@qemu/guest >/dev/null

module: ## build the kernel module (build/loggerfs.ko)
	@qemu/module . $(BUILD)

module-debug: ## build it for the debug kernel (build/debug/loggerfs.ko)
	@qemu/module --debug . $(BUILD:build%=build/debug%)

logctl: ## build the command-line tool (build/logctl), one static binary
	@mkdir -p build
	@cd logctl && RUSTFLAGS='-C target-feature=+crt-static' \
		../qemu/cargo '$(CURDIR)/build/cargo' build --release --locked --target $(TARGET)
	@cmp -s build/cargo/$(TARGET)/release/logctl build/logctl || \
		install -m 755 build/cargo/$(TARGET)/release/logctl build/logctl

shell: module logctl ## a prompt on the stock kernel, loggerfs on a private tmpfs at /mnt
	@qemu/run --module $(BUILD)/loggerfs.ko --bin build/logctl \
		--setup 'insmod /job/loggerfs.ko && mount -t loggerfs none /mnt && cd /mnt'

demo: ## show what it does, in the guest
	@tests/demo

test: ## all tests
	@tests/run

test-debug: ## the guest's tests on a kernel with KASAN, lockdep, kmemleak ...
	@tests/debug

test-debug-short: ## those of locking and memory over ext4, if that kernel can be built in five minutes
	@tests/debug --short --patience 300

faults: ## every call of the lower filesystem fails once
	@tests/faults

faults-short: ## those of five scenarios
	@tests/faults --scenario overwrite --scenario create --scenario unlink --scenario revert-1 --scenario revert-names-unlink

mutants: ## take one hook away at a time: a test has to fail
	@tests/mutants/run

fuzz: ## bytes, numbers, calls and histories that nobody meant: ten minutes on the host, as long in the guest
	@tests/fuzz/run

powercut: ## cut the power N times (50) under a workload, and look at what is left (SEED repeats)
	@tests/powercut/run --points $(or $(N),50) $(if $(SEED),--seed $(SEED))

nightly: ## all of these with long settings, for hours
	@tests/nightly

torture: ## suites that others wrote, compared with the raw filesystem
	@tests/torture/run

trials: ## small cases and real programs, on the raw filesystem and on LoggerFS, undone and compared
	@tests/trials/run

trials-short: ## twenty small cases of it, over ext4
	@tests/trials/run --short

attack: ## users without rights try to hold others up, for five minutes of a guest's
	@tests/attack/run

attack-short: ## the same for 20 seconds
	@tests/attack/run --short

bench: ## the figures of the README
	@tests/bench/run

lint: ## formatting, linters and the project's own rules
	@tests/lint

clean: ## remove build/ (the cache stays; delete its directory to start anew)
	rm -rf build
