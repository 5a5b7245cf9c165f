# SPDX-License-Identifier: MIT
# shellcheck shell=bash disable=SC2034 # for those who source it
#
# kernel/functions.sh - sourced by kernel/{fetch,build,boot,test}
#
# What is fetched and built lies outside the checkout, in
#
#	$FAULTLINE_KERNEL_CACHE, else $XDG_CACHE_HOME/faultline/kernel, else ~/.cache/faultline/kernel
#
#	source/ID	pristine trees
#	tree/ID-CONFIG	one working tree for each source and configuration, objects in its build/
#	kernel/KEY	finished kernels with their tests, by (source, series, configuration)
#	result/KEY	what the stock kernel's tests said
#
# Of these 3, 4, 12 and 6 are kept, those that were used last.

# Sourcing it goes to the top of the checkout; what the user names is where the user was.
was_in=$PWD
absolute() {
	[[ $1 = /* ]] && echo "$1" || echo "$was_in/$1"
}
[[ ! ${LINUX_SRC-} ]] || LINUX_SRC=$(absolute "$LINUX_SRC")
[[ ! ${SERIES-} ]] || SERIES=$(absolute "$SERIES")
cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit
kernel_dir=$PWD/kernel
kernel_cache=${XDG_CACHE_HOME:-~/.cache}/faultline/kernel
[[ ! ${FAULTLINE_KERNEL_CACHE-} ]] || kernel_cache=$(absolute "$FAULTLINE_KERNEL_CACHE")
series_dir=${SERIES:-$kernel_dir/series}
kernel_series=7.3 # of Linux
modes=(tdp no-tdp-mmu no-npt) # of KVM's MMU, see kernel/boot

say() {
	printf '%s: %s\n' "kernel/${0##*/}" "$*" >&2
}

fail() {
	say "$*"
	exit 1
}

# One at a time, whoever else uses the cache. Held until the process ends.
lock() {
	local fd
	mkdir -p "$kernel_cache"
	exec {fd}>>"$kernel_cache/$1.lock"
	flock -n "$fd" || { say "waiting for another that uses $1" && flock "$fd"; }
}

# prune FOLDER N - keep the N of the cache's folder that were used last
prune() {
	local old
	find "$kernel_cache/$1" -mindepth 1 -maxdepth 1 -printf '%T@ %p\n' | sort -rn |
		tail -n "+$(($2 + 1))" | cut -d ' ' -f 2- | while read -r old; do
		rm -rf "$old"
	done
}

# tree_version TREE - 7.3.4
tree_version() {
	awk '$1 ~ /^(VERSION|PATCHLEVEL|SUBLEVEL)$/ && $2 == "=" { v = v sep $3; sep = "." }
		END { print v }' "$1/Makefile" 2>/dev/null
}

# tree_id TREE - the name of this source; of one that is not the cache's, by its files' times
tree_id() {
	if [[ $1 = "$kernel_cache"/source/* ]]; then
		basename "$1"
	else
		echo "linux-$(tree_version "$1")-$(cd "$1" && find . -name .git -prune -o -type f \
			-printf '%P %s %T@\n' | sort | hash_of -)"
	fi
}

# hash_of FILE... - of their contents
hash_of() {
	cat -- "$@" | sha256sum | cut -c 1-12
}

patches() {
	[[ ! -d $series_dir ]] || find "$series_dir" -maxdepth 1 -name '[0-9]*.patch' | sort
}

# list_tests - ORIGIN, NAME, MODES, SECONDS, COMMAND of all tests, tab-separated
list_tests() {
	local list program
	for list in "$kernel_dir"/tests/*.list; do
		sed 's/#.*//' "$list" | awk -v origin="$(basename "$list" .list)" 'NF >= 4 {
			printf "%s\t%s\t%s\t%s\t", origin, $1, $2, $3
			for (i = 4; i <= NF; i++) printf "%s%s", $i, i < NF ? " " : "\n"
		}'
	done
	added_programs | while read -r program; do
		grep -qE "[[:space:]]$program( |$)" "$kernel_dir"/tests/*.list ||
			printf 'series\t%s\tall\t120\t%s\n' "$(basename "$program" _test)" "$program"
	done
}

# added_programs - the series' own: kvm/x86/x_test, mm/y_test
added_programs() {
	patches | xargs -r -d '\n' cat | awk '
		new && match($0, /^\+\+\+ b\/tools\/testing\/selftests\/(kvm|mm)\/[^ ]*_test\.c/) {
			print substr($0, 31, RLENGTH - 32)
		}
		{ new = $0 == "--- /dev/null" }' | sort -u
}

# example DOCUMENT.rst - the code block at its end
example() {
	awk 'on { sub(/^\t/, ""); print } /^\.\. code-block:: c$/ { on = 1 }' "$1"
}

# list_programs - kvm/x, mm/y: those of tools/testing/selftests that the tests run; doc/z: examples
list_programs() {
	list_tests | cut -f 5 | cut -d ' ' -f 1 | sort -u
}
