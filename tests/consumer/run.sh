#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
# run.sh BUILD CC: installs a build tree, then builds and runs the program of this
# folder against it by find_package and by pkg-config, each shared and static.
# The installed tree is moved first, so that no path of the build is relied on.
set -eu
build=$1 cc=$2
here=$(cd "$(dirname "$0")" && pwd)
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT

unset DESTDIR
quiet() { "$@" >"$tmp/log" 2>&1 || { cat "$tmp/log"; exit 1; }; }
quiet cmake --install "$build" --prefix "$tmp/installed"
mv "$tmp/installed" "$tmp/moved"
tree=$tmp/moved
lib=$(dirname "$(find "$tree" -name libuhmm.a)")
export LD_LIBRARY_PATH="$lib"
export PKG_CONFIG_PATH="$lib/pkgconfig"
version=$(pkg-config --modversion uhmm)

run() { # NAME shared|static PROGRAM
	echo "== $1"
	"$3" >"$tmp/out"
	cat "$tmp/out"
	grep -qx "uhmm $version" "$tmp/out" || { echo "$1: not version $version"; exit 1; }
	if readelf -d "$3" | grep -q 'NEEDED.*libuhmm\.so'; then form=shared; else form=static; fi
	[ "$form" = "$2" ] || { echo "$1: linked $form, not $2"; exit 1; }
}

quiet cmake -S "$here" -B "$tmp/cmake" -DCMAKE_C_COMPILER="$cc" -DCMAKE_PREFIX_PATH="$tree"
quiet cmake --build "$tmp/cmake"
run "find_package, shared" shared "$tmp/cmake/by-cmake-uhmm"
run "find_package, static" static "$tmp/cmake/by-cmake-uhmm-static"
run "find_package, checked" static "$tmp/cmake/by-cmake-uhmm-checked"

# shellcheck disable=SC2046 # pkg-config prints words
{
	"$cc" "$here/main.c" -o "$tmp/pc-shared" $(pkg-config --cflags --libs uhmm)
	run "pkg-config, shared" shared "$tmp/pc-shared"
	"$cc" "$here/main.c" -o "$tmp/pc-static" \
		$(pkg-config --static --cflags --libs uhmm | sed 's/-luhmm /-l:libuhmm.a /')
	run "pkg-config, static" static "$tmp/pc-static"
	"$cc" "$here/main.c" -o "$tmp/pc-checked" $(pkg-config --cflags --libs uhmm-checked)
	run "pkg-config, checked" static "$tmp/pc-checked"
}

# What a package has to hold.
for file in bin/uhmm bin/uhmm-checked; do
	[ ! -e "$build/${file#bin/}" ] || [ -x "$tree/$file" ] || { echo "$file is not installed"; exit 1; }
done
[ ! -x "$tree/bin/uhmm" ] || "$tree/bin/uhmm" --help >/dev/null
for page in "$here"/../../docs/man/*.1; do
	[ ! -e "$page" ] || [ -e "$tree/share/man/man1/${page##*/}" ] ||
		{ echo "${page##*/} is not installed"; exit 1; }
done
