#!/bin/bash
# SPDX-License-Identifier: MIT
# What is installed is enough to build and run a program against, shared and static.
#
# builds: plain (the others need their sanitizer in the program too)
. "$(dirname "$0")/../functions.sh"

DESTDIR=$tmp/root meson install -C "$BUILD" --no-rebuild --quiet
pc=$(find "$tmp/root" -name faultline.pc)
[[ -n $pc ]] || fail "no pkg-config file"
export PKG_CONFIG_PATH=${pc%/*} PKG_CONFIG_SYSROOT_DIR=$tmp/root
flags() {
	pkg-config "$@" faultline || fail "pkg-config $*"
}

cat >"$tmp/user.c" <<'C'
#include <faultline/faultline.h>
#include <stdio.h>

int main(void)
{
	return puts(fl_version()) < 0;
}
C

version=$(pkg-config --modversion faultline)
libdir=$tmp/root$(PKG_CONFIG_SYSROOT_DIR='' pkg-config --variable=libdir faultline)

# shellcheck disable=SC2046 # flags are words
cc "$tmp/user.c" -o "$tmp/shared" $(flags --cflags --libs)
said=$(LD_LIBRARY_PATH=$libdir "$tmp/shared")
[[ $said = "$version" ]] || fail "the shared library says '$said', pkg-config '$version'"
[[ $(ldd "$tmp/shared") = *libfaultline.so.0* ]] || fail "not linked with libfaultline.so.0"

# shellcheck disable=SC2046
cc "$tmp/user.c" -o "$tmp/static" $(flags --cflags) "$libdir/libfaultline.a" \
	$(pkg-config --libs liburing jansson) -pthread
[[ $("$tmp/static") = "$version" ]] || fail "the static library says something else"

for program in faultline faultline-vmm; do
	[[ -x $tmp/root$(PKG_CONFIG_SYSROOT_DIR='' pkg-config --variable=prefix faultline)/bin/$program ]] ||
		fail "$program is not installed"
done
