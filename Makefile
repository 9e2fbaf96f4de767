# Two commands matter: `make matrix` and `make test`. Both set up what is missing first; set-up that is done is not done again.

PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV   := .venv
BIN    := $(VENV)/bin
BUILD  := build
CLANG  ?= clang
STRIP  ?= llvm-strip
MATRIX ?= matrix.yaml
HOST   := $(shell uname -m | sed 's/aarch64/arm64/;s/x86_64/amd64/')

# The other architecture that guests can have; QEMU emulates it. `make build-arm64` compiles for it.
FOREIGN := $(filter-out $(HOST),amd64 arm64)
TRIPLET_amd64 := x86_64-linux-gnu
TRIPLET_arm64 := aarch64-linux-gnu

# What the files of a rule are compiled for; the rules of another architecture set their own.
TARGET  := $(HOST)
HEADERS := /usr/include/$(shell uname -m)-linux-gnu

BPF_SOURCES := $(wildcard bpf/*.c bpf/*.h)
# asm/types.h is where the compiler for that machine looks for it, and only it.
BPF_INCLUDES = -idirafter $(HEADERS)
# An unrolled loop is a larger program, and what a program costs to load grows with its size: -fno-unroll-loops.
BPF_CFLAGS   = -g -O2 -fno-unroll-loops -target bpf -mcpu=v2 -D__TARGET_ARCH_$(TARGET:amd64=x86) -Wall -Werror -Ibpf $(BPF_INCLUDES)
GENERATOR   := agent/selftest/generator
GENERATOR_SOURCES := $(wildcard $(GENERATOR)/*.c $(GENERATOR)/*.h)

# What is installed is named by the digest of what it was installed from: times say nothing after a checkout or a restored cache.
INSTALLED := $(VENV)/.installed-$(shell cat requirements.lock pyproject.toml | sha256sum | cut -c 1-16)

# So are the sources of what is compiled; `harness run` compares them too. The rule that makes a mark removes the older ones.
digest_of = $(shell cat $(sort $(1)) | sha256sum | cut -c 1-16)
BPF_MARK := .fim.bpf.o.$(call digest_of,$(BPF_SOURCES))
GENERATOR_MARK := .fim-gen.$(call digest_of,$(GENERATOR_SOURCES))
BPF_FROM := $(BUILD)/$(BPF_MARK)
GENERATOR_FROM := $(BUILD)/$(GENERATOR_MARK)

# The extra `cluster` has a lock of its own, so that a host without a cluster installs nothing of it.
CLUSTER := $(VENV)/.cluster-$(shell cat requirements-cluster.lock pyproject.toml | sha256sum | cut -c 1-16)

# `make test` boots the oldest and the newest kernel of matrix.yaml; the scenarios carry the tag in the catalogue.
SMOKE := --kernel 5.10 --kernel 7.3 --hookset auto --test @smoke --must-pass

.PHONY: matrix nightly test unit lint guest noise bench mutants faults random-faults steady cluster-faults law law-rules deb docs lock setup setup-cluster build clean

matrix: setup build
	$(BIN)/harness run --matrix $(MATRIX) $(ARGS)

nightly: setup build deb
	$(BIN)/harness run --matrix $(MATRIX) --tag nightly $(ARGS)

# ARGS are pytest's in both; the kernels are booted once the fast tests have passed.
test: unit
	$(BIN)/harness run --matrix matrix.yaml $(SMOKE)

unit: setup setup-cluster build $(BUILD)/.test-packages
	$(BIN)/pytest -n auto $(ARGS)

guest: setup setup-cluster build $(BUILD)/.test-packages
	$(BIN)/pytest -m guest $(ARGS)

# Every way in which a machine, its guest or this host can fail, put into real machines.
faults: setup build
	$(BIN)/python -m tests.campaigns.faults $(ARGS)

# Faults, moments and loads drawn at random; another seed each day. The table of a long campaign is in docs/faults.md.
random-faults: setup build
	$(BIN)/python -m tests.campaigns.faults --random 100 --seed $(shell date +%Y%m%d) $(ARGS)

# The default cells of three kernels, 30 times each, with four machines at once for each CPU: an hour and a half emulated.
steady: setup build
	$(BIN)/python -m tests.campaigns.steady $(ARGS)

# A cluster of simulated hosts: workers are killed, one joins late, the scheduler dies. docs/cluster.md has the figures.
cluster-faults: setup setup-cluster
	$(BIN)/python -m tests.campaigns.cluster $(ARGS)

# Deliberate faults, each of which self-tests must notice: many minutes, so only the nightly job does it.
mutants: setup build
	$(BIN)/python -m tests.campaigns.mutants.warm $(ARGS)

# Random programs under random rules in real guests, judged by what the kernel told the programs themselves.
law: setup build
	$(BIN)/python -m tests.campaigns.law $(ARGS)

# Random rules and policies: the engine and the filters against naive answers, a million pairs of rule and event.
law-rules: setup
	$(BIN)/python -m tests.campaigns.law.rules $(ARGS)

# How much the kernel stops of what happens all day, with the default rules: docs/operations.md has the figures.
noise: setup build
	$(BIN)/pytest -m guest tests/guest/agent/test_noise.py $(ARGS)

# What monitoring costs on one kernel, for the agent and for other monitors: hours. docs/cost.md has the figures.
bench: setup build
	$(BIN)/harness bench $(or $(ARGS),--kernel 6.1)

# The Debian package of the agent, in build/deb.
deb: setup build
	@rm -rf $(BUILD)/deb
	PATH="$(abspath $(BIN)):$$PATH" $(BIN)/python packaging/deb.py $(BUILD)/deb

# The pages that are made from the code, and with RESULTS=out/latest from a run.
docs: setup
	$(BIN)/python packaging/pages.py docs/rules.md docs/selftest.md docs/tables.md
	$(BIN)/harness report $(or $(RESULTS),docs/tables.json) --tables docs/tables.md

# Exact versions and hashes of all dependencies, for every supported Python. Versions that are locked already stay.
COMPILE_LOCK = $(BUILD)/uv/bin/uv pip compile -q --universal --python-version 3.11 --generate-hashes \
	--custom-compile-command "make lock"

lock: setup
	@[ -x $(BUILD)/uv/bin/uv ] || { $(PYTHON) -m venv $(BUILD)/uv && $(BUILD)/uv/bin/pip install -q uv; }
	$(COMPILE_LOCK) --extra test -o requirements.lock pyproject.toml
	$(COMPILE_LOCK) --extra cluster -c requirements.lock -o requirements-cluster.lock pyproject.toml

lint: setup $(BUILD)/.test-packages
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

setup: $(BUILD)/.packages $(INSTALLED)

# What `harness run --cluster` and `harness worker` need besides.
setup-cluster: $(BUILD)/.packages $(CLUSTER)

$(BUILD)/.packages: images/host-packages.txt
	@mkdir -p $(BUILD)
	@scripts/install-packages $(BUILD)/apt.log $<
	@touch $@

# What only the tests need.
$(BUILD)/.test-packages: images/test-packages.txt | $(BUILD)/.packages
	@scripts/install-packages $(BUILD)/apt-test.log $<
	@touch $@

$(INSTALLED): | $(BUILD)/.packages
	@[ -x $(BIN)/python ] || $(PYTHON) -m venv $(VENV)
	@echo "setup: Python packages into $(VENV)"
	@$(BIN)/pip install -q --disable-pip-version-check --require-hashes -r requirements.lock
	@$(BIN)/pip install -q --disable-pip-version-check --no-deps -e .
	@rm -f $(VENV)/.installed-* $(VENV)/.cluster-*
	@touch $@

$(CLUSTER): $(INSTALLED)
	@echo "setup: Python packages of the extra cluster into $(VENV)"
	@$(BIN)/pip install -q --disable-pip-version-check --require-hashes -r requirements-cluster.lock
	@rm -f $(VENV)/.cluster-*
	@touch $@

build: $(BUILD)/fim.bpf.o $(BUILD)/fim-casts.bpf.o $(BUILD)/fim-gen $(BUILD)/rules_tables.py

define COMPILE_BPF
$(CLANG) $(BPF_CFLAGS) $(FAMILIES) -c bpf/fim.bpf.c -o $@.partial
$(STRIP) -g $@.partial
@mv $@.partial $@
endef

define COMPILE_GENERATOR
$(CC) -O2 -Wall -Wextra -Werror -static -s -o $@ $(GENERATOR)/*.c
endef

define MARK
@mkdir -p $(@D)
@rm -f $(basename $@).*
@touch $@
endef

$(BPF_FROM) $(GENERATOR_FROM): | $(BUILD)/.packages
	$(MARK)

$(BUILD)/fim.bpf.o: $(BPF_SOURCES) $(BPF_FROM) | $(BUILD)/.packages
	$(COMPILE_BPF)

# The same programs for kernels under lockdown, which attach no kprobes: bpf/read.h.
CASTS := -DFIM_CASTS -DFIM_WITHOUT_KPROBE
$(BUILD)/fim-casts.bpf.o: FAMILIES = $(CASTS)
$(BUILD)/fim-casts.bpf.o: $(BPF_SOURCES) $(BPF_FROM) | $(BUILD)/.packages
	$(COMPILE_BPF)

# What the developer's loop tests before the rest is compiled: fim-without-KPROBE.KPROBE_MULTI.bpf.o.
$(BUILD)/fim-without-%.bpf.o: FAMILIES = $(addprefix -DFIM_WITHOUT_,$(subst ., ,$*))
$(BUILD)/fim-without-%.bpf.o: $(BPF_SOURCES) $(BPF_FROM) | $(BUILD)/.packages
	$(COMPILE_BPF)

$(BUILD)/fim-gen: $(GENERATOR_SOURCES) $(GENERATOR_FROM) | $(BUILD)/.packages
	$(COMPILE_GENERATOR)

# The same files for guests of another architecture, in build/ARCH, and first the packages that compile and boot them.
define FOREIGN_RULES
.PHONY: build-$(1)
build-$(1): $(BUILD)/$(1)/fim.bpf.o $(BUILD)/$(1)/fim-casts.bpf.o $(BUILD)/$(1)/fim-gen

$(BUILD)/$(1)/%: TARGET = $(1)
$(BUILD)/$(1)/%: HEADERS = /usr/$(TRIPLET_$(1))/include
$(BUILD)/$(1)/%: CC = $(TRIPLET_$(1))-gcc

$(BUILD)/.packages-$(1): images/$(1)-packages.txt | $(BUILD)/.packages
	@scripts/install-packages $(BUILD)/apt-$(1).log $$<
	@touch $$@

$(BUILD)/$(1)/$(BPF_MARK) $(BUILD)/$(1)/$(GENERATOR_MARK): | $(BUILD)/.packages-$(1)
	$$(MARK)

$(BUILD)/$(1)/fim.bpf.o: $(BPF_SOURCES) $(BUILD)/$(1)/$(BPF_MARK)
	$$(COMPILE_BPF)

$(BUILD)/$(1)/fim-casts.bpf.o: FAMILIES = $(CASTS)
$(BUILD)/$(1)/fim-casts.bpf.o: $(BPF_SOURCES) $(BUILD)/$(1)/$(BPF_MARK)
	$$(COMPILE_BPF)

$(BUILD)/$(1)/fim-without-%.bpf.o: FAMILIES = $$(addprefix -DFIM_WITHOUT_,$$(subst ., ,$$*))
$(BUILD)/$(1)/fim-without-%.bpf.o: $(BPF_SOURCES) $(BUILD)/$(1)/$(BPF_MARK)
	$$(COMPILE_BPF)

$(BUILD)/$(1)/fim-gen: $(GENERATOR_SOURCES) $(BUILD)/$(1)/$(GENERATOR_MARK)
	$$(COMPILE_GENERATOR)
endef
$(foreach arch,$(FOREIGN),$(eval $(call FOREIGN_RULES,$(arch))))

# The rule parser's tables, made ahead of time: building them from the grammar is most of the agent's start.
$(BUILD)/rules_tables.py: $(wildcard agent/rules/*.py) agent/rules/grammar.lark $(INSTALLED)
	$(BIN)/python -m agent.rules.tables $@

clean:
	rm -rf $(BUILD) out
