# SPDX-License-Identifier: MIT
# The front door. meson and ninja do the work; `make help` lists what there is.

PREFIX ?= /usr/local
DESTDIR ?=
# Passed on to tests/run and kernel/test when they are set
export ONLY BUILDS FUZZ_SECONDS JOBS
export DEBUG STRESS SERIES LINUX_SRC

.PHONY: all setup demo test test-kernel bench install lint clean help

all: build/build.ninja ## build everything into build/
	ninja -C build

# Names what is missing instead of failing somewhere inside meson.
build/build.ninja:
	@tools/setup --check build
	meson setup build

setup: ## install what building, testing and linting need (as root, Debian)
	@tools/setup build test lint

demo: ## set up, build, and restore a virtual machine page by page
	@tools/setup build demo
	@$(MAKE) --no-print-directory all
	@tools/demo

test: ## set up, build every kind of build, run every test (ONLY=regex BUILDS="plain asan tsan fuzz")
	@tools/setup build test
	@tests/run

test-kernel: ## build, boot and test the kernel series (ONLY=regex STRESS=60 DEBUG=1), kernel/README.md
	@tools/setup kernel
	@kernel/test

bench: ## produce the figures of docs/performance.md
	@tools/setup build demo
	@$(MAKE) --no-print-directory all
	@bench/run

install: all ## install under PREFIX, staged in DESTDIR
	meson configure build "-Dprefix=$(abspath $(PREFIX))"
	DESTDIR="$(DESTDIR)" meson install -C build

lint: ## clang-format, clang-tidy, cppcheck, shellcheck: all must be silent
	@tools/setup build lint
	@tools/lint

clean: ## remove every build
	rm -rf build build-asan build-tsan build-fuzz

help:
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/make \1	\2/p' $(MAKEFILE_LIST) | expand -t 20
