#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
# Which folder may include what.
#   layers.sh [ROOT]        check a source tree (default: the current folder)
#   layers.sh --self-test   show that each rule is enforced, on planted files
# Prints file:line: message for each violation; status 1 if there was one.
set -eu

# From top to bottom: a folder of src/ uses itself and what comes after it.
layers="explore replay mirror migrate hmm devmem mm pgtable sync core"

check() {
	find "$1/src" "$1/include" "$1/tools" "$1/tests" "$1/bench" "$1/examples" \
		-type f -name '*.[chS]' 2>/dev/null | LC_ALL=C sort |
	while read -r file; do
		awk -v file="${file#"$1"/}" -v layers="$layers" "$rules" "$file"
	done
}

# Each #include line is judged by where it stands (folder) and what it names (what).
# shellcheck disable=SC2016
rules='
function bad(why) { printf "%s:%d: %s: %s\n", file, FNR, $0, why }

BEGIN {
	n = split(layers, name, " ")
	for (i = 1; i <= n; i++)
		rank[name[i]] = i
	split(file, part, "/")
	folder = part[1] == "src" || part[1] == "tests" ? part[1] "/" part[2] : part[1]
	layer = part[1] == "src" ? part[2] : ""
	# Tests that look inside; all others stand outside, as a user does.
	inside = folder ~ /^tests\/(unit|model|sched|stress|inject|regress|fuzz)$/ ||
		 folder ~ /^tests\/[^\/]*\.[ch]$/
	if (part[1] == "src" && !(layer in rank))
		printf "%s: not in one of the layers: %s\n", file, layers
}

/^[ \t]*#[ \t]*include[ \t]*[<"]/ {
	what = $0
	sub(/^[^<"]*/, "", what)
	quoted = what ~ /^"/
	what = substr(what, 2)
	sub(/[>"].*$/, "", what)
	first = what
	sub(/\/.*$/, "", first)

	if (what ~ /(^|\/)\.\.?\//)
		bad("relative path; name it from src/ or include/")
	else if (first == "src" || first == "include")
		bad("name it from src/ or include/")
	else if (first == "uhmm" && quoted)
		bad("public headers are included with <>")
	else if ((first in rank) && what != first && folder == "include")
		bad("a public header may not use src/")
	else if ((first in rank) && what != first && layer != "") {
		if (!quoted)
			bad("internal headers are included with quotes")
		else if (rank[first] < rank[layer])
			bad("src/" layer " is below src/" first)
	} else if ((first in rank) && what != first && !inside)
		bad(folder " may use include/ alone")
	else if (layer != "" && quoted && what == first)
		bad("name it with its folder: \"" layer "/" what "\"")
	else if (folder == "include" && quoted)
		bad("public headers are included with <uhmm/...>")

	# Each library has one user.
	if (layer != "") {
		if (what ~ /^urcu([.\/-]|$)/ && layer != "sync")
			bad("only src/sync uses liburcu")
		if (what ~ /^jemalloc\// && layer != "core")
			bad("only src/core uses jemalloc")
		if (what ~ /^zstd/ && layer != "replay")
			bad("only src/replay uses zstd")
		if (what ~ /^xxhash/ && layer != "core")
			bad("only src/core uses xxhash")
	}
	if (what ~ /^jansson/ && folder !~ /^(tools|tests)/)
		bad("only the command and the tests use jansson")
}'

# Plants one file with one line in an empty tree and looks at the verdict.
plant() { # allowed|refused FILE LINE
	rm -rf "$tree"
	mkdir -p "$tree/${2%/*}"
	printf '/* a file */\n%s\n' "$3" >"$tree/$2"
	verdict=allowed
	[ -z "$(check "$tree")" ] || verdict=refused
	[ "$verdict" = "$1" ] && return
	echo "self-test: $2 with \`$3' was $verdict, should be $1"
	wrong=1
}

self_test() {
	tmp=$(mktemp -d)
	trap 'rm -rf "$tmp"' EXIT
	tree=$tmp/tree
	wrong=0
	plant allowed src/mm/a.c '#include "mm/b.h"'
	plant allowed src/mm/a.c '#include "core/b.h"'
	plant allowed src/mm/a.c '#include <uhmm/mm.h>'
	plant allowed src/core/a.c '#include <stdio.h>'
	plant allowed src/core/a.c '#include "core/lock_classes.def"'
	plant allowed src/mm/a.c '/* not an #include "hmm/b.h" */'
	plant refused src/core/a.c '#include "sync/b.h"'
	plant refused src/mm/a.h '  #  include "devmem/b.h"'
	plant refused src/migrate/a.c '#include "mirror/b.h"'
	plant refused src/hmm/a.c '#include <migrate/b.h>'
	plant refused src/mm/a.c '#include "../hmm/b.h"'
	plant refused src/mm/a.c '#include "src/hmm/b.h"'
	plant refused src/mm/a.c '#include "b.h"'
	plant refused src/mm/a.c '#include "uhmm/mm.h"'
	plant refused src/other/a.c '#include "core/b.h"'
	plant refused src/mm/a.c '#include <urcu/urcu-memb.h>'
	plant allowed src/sync/a.c '#include <urcu/urcu-memb.h>'
	plant refused src/mm/a.c '#include <jemalloc/jemalloc.h>'
	plant allowed src/core/a.c '#include <jemalloc/jemalloc.h>'
	plant refused src/mirror/a.c '#include <zstd.h>'
	plant refused src/mm/a.c '#include <xxhash.h>'
	plant refused src/replay/a.c '#include "explore/b.h"'
	plant refused src/replay/a.c '#include <jansson.h>'
	plant refused include/uhmm/a.h '#include "mm/b.h"'
	plant refused include/uhmm/a.h '#include "b.h"'
	plant allowed include/uhmm/a.h '#include <uhmm/b.h>'
	plant refused tools/a.c '#include "mm/b.h"'
	plant allowed tools/a.c '#include "b.h"'
	plant allowed tools/a.c '#include <jansson.h>'
	plant refused tools/a.c '#include "../src/mm/b.h"'
	plant refused examples/a.c '#include "mm/b.h"'
	plant refused bench/a.c '#include "mm/b.h"'
	plant refused tests/selftest/test_a.c '#include "mm/b.h"'
	plant refused tests/consumer/a.c '#include "mm/b.h"'
	plant allowed tests/unit/test_a.c '#include "mm/b.h"'
	plant allowed tests/test_support.h '#include "mm/b.h"'
	[ "$wrong" = 0 ] && echo "layers: every planted file was judged rightly"
	return "$wrong"
}

if [ "${1:-}" = --self-test ]; then
	self_test
	exit
fi
found=$(check "${1:-.}")
[ -n "$found" ] || exit 0
echo "$found"
exit 1
