#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
# Bugs that Linux had, put into the model: the test that each patch names must see it.
# usage: run.sh [PATCH...], by default every tests/mutants/*.patch. See tests/mutants/README.md.
# BUILD_TYPE (Debug), CK_DEFAULT_TIMEOUT (60, seconds for one test of a program) and MUTANT_TIMEOUT
# (300, for the program) can be set in the environment.
set -eu
root=$(cd "$(dirname "$0")/../.." && pwd)
[ $# -gt 0 ] || set -- "$root"/tests/mutants/*.patch
export CK_DEFAULT_TIMEOUT="${CK_DEFAULT_TIMEOUT:-60}"
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
trap 'exit 130' INT TERM
tree=$tmp/tree build=$tmp/build
failed=0

die() {
	echo "mutants: $*" >&2
	exit 1
}

complain() { # WORDS...: why, and the log
	echo "$*"
	tail -n 20 "$tmp/log" | sed 's/^/    /'
	failed=$((failed + 1))
}

caught_by() { sed -n 's/^Caught-by: *//p' "$1"; }

# The name of the program of a ctest case, as tests/CMakeLists.txt makes it.
target_of() { echo "test_$1" | sed 's/[^A-Za-z0-9]/_/g'; }

compile() { # CATCHER
	cmake --build "$build" -j "$(nproc)" --target "$(target_of "$1")" >"$tmp/log" 2>&1
}

run() { # CATCHER
	timeout "${MUTANT_TIMEOUT:-300}" "$build/tests/$(target_of "$1")" >"$tmp/log" 2>&1
}

# Files keep their times, so that a patch costs what it touches.
copy_tree() {
	mkdir "$tree"
	(cd "$root" && tar -cf - --exclude=./build --exclude=./.git .) | tar -xf - -C "$tree"
	cmake -S "$tree" -B "$build" -DCMAKE_BUILD_TYPE="${BUILD_TYPE:-Debug}" \
		-DUHMM_WERROR=OFF >"$tmp/log" 2>&1 || {
		cat "$tmp/log" >&2
		die "cannot configure a copy of the tree"
	}
}

# Whether the test passes where nothing is wrong, once for each test.
check_catcher() {
	case " ${good:-} " in *" $1 "*) return 0 ;; esac
	compile "$1" || { complain "$1: does not build without a patch"; return 1; }
	run "$1" || { complain "$1: fails without a patch, status $?"; return 1; }
	good="${good:-} $1"
}

mutant() { # PATCH CATCHER
	begun=$(date +%s)
	if ! patch -d "$tree" -p1 --dry-run <"$1" >"$tmp/log" 2>&1; then
		complain "$name: the patch does not apply"
		return
	fi
	patch -d "$tree" -p1 -s --no-backup-if-mismatch <"$1"
	if ! compile "$2"; then
		complain "$name: does not build"
	elif run "$2"; then
		complain "$name: NOT caught by $2"
	else
		printf '%-16s caught by %-28s %4d s\n' "$name" "$2" $(($(date +%s) - begun))
	fi
	patch -d "$tree" -p1 -s -R --no-backup-if-mismatch <"$1"
}

command -v patch >/dev/null || die "patch is not installed"
copy_tree
for patch in "$@"; do
	[ -f "$patch" ] || die "no such file: $patch"
	name=$(basename "$patch" .patch)
	catcher=$(caught_by "$patch")
	[ -n "$catcher" ] || die "$patch: no line 'Caught-by: TEST'"
	if check_catcher "$catcher"; then
		mutant "$patch" "$catcher"
	fi
done
[ "$failed" = 0 ]
