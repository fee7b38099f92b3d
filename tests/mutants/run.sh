#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
# Bugs that Linux had, put into the model: the check that each patch names must see it.
# usage: run.sh [NAME...], by default every tests/mutants/NAME.patch. See tests/mutants/README.md.
# MUTANTS_DIR (build/mutants: a copy of the tree, kept for the next time), CK_DEFAULT_TIMEOUT (30,
# seconds for one test of a program) and MUTANT_TIMEOUT (300, for one check) can be set in the environment.
set -eu
root=$(cd "$(dirname "$0")/../.." && pwd)
dir=${MUTANTS_DIR:-$root/build/mutants}
tree=$dir/tree build=$dir/build log=$dir/log
export CK_DEFAULT_TIMEOUT="${CK_DEFAULT_TIMEOUT:-30}" UHMM_TEST_SECONDS="${UHMM_TEST_SECONDS:-2}"
caught=0 failed=0

die() {
	echo "mutants: $*" >&2
	exit 1
}

complain() { # WORDS...: why, and the log
	echo "$*"
	tail -n 20 "$log" | sed 's/^/    /'
	failed=$((failed + 1))
}

patch_of() { echo "$root/tests/mutants/$1.patch"; }

# The text after a word such as 'Caught-by:' in the head of a patch.
head_of() { # NAME WORD
	sed -n "/^--- /q; s/^$2: *//p" "$(patch_of "$1")"
}

# The checked command for an exploration, else the program of a ctest case: its first word.
target_of() { # CATCHER
	case $1 in
	'explore '*) echo uhmm-checked ;;
	*) echo "test_${1%% *}" | sed 's/[^A-Za-z0-9]/_/g' ;;
	esac
}

compile() { # TARGET...
	cmake --build "$build" -j "$(nproc)" --target "$@" >"$log" 2>&1
}

# In a folder of its own: an exploration saves its schedule where it is.
run() { # CATCHER
	program=$build/tests/$(target_of "$1") only=''
	# shellcheck disable=SC2086 # words
	case $1 in
	'explore '*) set -- "$build/uhmm-checked" $1 ;;
	*)
		[ "${1#* }" = "$1" ] || only=${1#* }
		set -- "$program"
		;;
	esac
	(
		cd "$dir/run"
		[ -z "$only" ] || export CK_RUN_CASE="$only"
		timeout "${MUTANT_TIMEOUT:-300}" "$@"
	) >"$log" 2>&1
}

# Files keep their times, so that a patch costs what it touches. What was made of a file while it was
# patched, in a run before this one, is newer than the file: it must not be taken for the file's.
copy_tree() {
	rm -rf "$tree"
	mkdir -p "$tree" "$dir/run"
	(cd "$root" && tar -cf - --exclude=./build --exclude=./.git .) | tar -xf - -C "$tree"
	touch "$dir/patched"
	sort -u -o "$dir/patched" "$dir/patched"
	(cd "$tree" && xargs -r touch -c) <"$dir/patched"
	if [ ! -d "$build" ] && command -v ninja >/dev/null; then
		export CMAKE_GENERATOR="${CMAKE_GENERATOR:-Ninja}"
	fi
	cmake -S "$tree" -B "$build" -DCMAKE_BUILD_TYPE=Debug -DCMAKE_C_FLAGS_DEBUG=-Og -DUHMM_WERROR=ON \
		-DUHMM_EXAMPLES=OFF '-DUHMM_TEST_CHECKED=unit;selftest;regress' >"$log" 2>&1 || {
		cat "$log" >&2
		die "cannot configure a copy of the tree"
	}
}

# Each check once where nothing is wrong.
check_catchers() { # NAME...
	for name in "$@"; do
		head_of "$name" Caught-by
	done | sort -u >"$dir/catchers"
	while read -r catcher; do
		target_of "$catcher"
	done <"$dir/catchers" | sort -u >"$dir/targets"
	# shellcheck disable=SC2046 # words
	compile $(cat "$dir/targets") || {
		cat "$log" >&2
		die "the tree does not build without a patch"
	}
	while read -r catcher; do
		run "$catcher" </dev/null || complain "$catcher: fails without a patch, status $?"
	done <"$dir/catchers"
}

# A patched tree must build, its check must fail, and say what the patch says it will.
mutant() { # NAME CATCHER TEXT
	if ! compile "$(target_of "$2")"; then
		complain "$1: does not build"
	elif run "$2"; then
		complain "$1: NOT caught by $2"
	elif ! grep -qF -e "$3" "$log"; then
		complain "$1: $2 fails, but does not say: $3"
	else
		caught=$((caught + 1))
		printf '%-20s %-76s %4d\n' "$1" "$2" $(($(date +%s) - begun))
	fi
}

command -v patch >/dev/null || die "patch is not installed"
if [ $# = 0 ]; then
	for patch in "$root"/tests/mutants/*.patch; do
		set -- "$@" "$(basename "$patch" .patch)"
	done
fi
for name in "$@"; do
	[ -f "$(patch_of "$name")" ] || die "there is no $(patch_of "$name")"
	[ -n "$(head_of "$name" Caught-by)" ] || die "$name: no line 'Caught-by: CHECK'"
	[ -n "$(head_of "$name" Says)" ] || die "$name: no line 'Says: TEXT'"
done
mkdir -p "$dir"
copy_tree
check_catchers "$@"
printf '%-20s %-76s %s\n' patch catcher seconds
for name in "$@"; do
	begun=$(date +%s)
	if patch -d "$tree" -p1 --dry-run <"$(patch_of "$name")" >"$log" 2>&1; then
		sed -n 's|^+++ b/||p' "$(patch_of "$name")" >>"$dir/patched"
		patch -d "$tree" -p1 -s --no-backup-if-mismatch <"$(patch_of "$name")"
		mutant "$name" "$(head_of "$name" Caught-by)" "$(head_of "$name" Says)"
		patch -d "$tree" -p1 -s -R --no-backup-if-mismatch <"$(patch_of "$name")"
	else
		complain "$name: the patch does not apply"
	fi
done
echo "$caught caught, $failed wrong"
[ "$failed" = 0 ]
