#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
# Instructions, locked instructions and cache misses of each path, for a page or an event: what
# valgrind's callgrind counts of the program count. They do not depend on the machine's mood.
#   count.sh PROGRAM [PAGES [TRACE]]    PAGES: 8192, a multiple of 512
# The caches are simulated: 32 KiB and 8 ways, then 8 MiB and 16 ways, lines of 64 bytes.
set -eu
program=$(realpath "$1")
pages=${2:-8192}
trace=${3:+$(realpath "$3")}
for tool in valgrind objdump nm; do
	command -v $tool >/dev/null || { echo "count.sh: $tool is not installed" >&2; exit 2; }
done
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
cd "$tmp"

# A pattern would do for one of the two, not for both.
dumps=$(nm "$program" | sed -n 's/.* t \(measure_[a-z_]*\)$/--dump-after=\1/p')
# shellcheck disable=SC2086 # words
if ! valgrind --quiet --tool=callgrind --callgrind-out-file=out --dump-instr=yes --dump-line=no \
	--compress-strings=no --compress-pos=no --cache-sim=yes --I1=32768,8,64 --D1=32768,8,64 \
	--LL=8388608,16,64 --toggle-collect='measure_*' --toggle-collect=read_ahead $dumps \
	"$program" "$pages" ${trace:+"$trace"} >paths 2>errors; then
	cat errors >&2
	exit 2
fi

# Where the program has a locked instruction; an exchange with memory is one without saying so.
objdump -d --no-show-raw-insn "$program" |
	awk '/^ +[0-9a-f]+:/ && ($2 == "lock" || ($2 == "xchg" && /\(/)) { sub(":", "", $1); print $1 }' >locked

# The sums of one dump: its path, Ir, locked, D1 misses, LL misses.
# shellcheck disable=SC2016
sums='
FNR == NR { locked["0x" $1] = 1; next }
/^desc: Trigger: --dump-after=/ { sub(/.*--dump-after=/, ""); path = $0 }
/^events:/ { for (i = 2; i <= NF; i++) column[$i] = i }
/^ob=/ { own = substr($0, 4) == program }
/^calls=/ { getline; next }
/^0x/ {
	ir += $column["Ir"]; d1 += $column["D1mr"] + $column["D1mw"]
	ll += $column["DLmr"] + $column["DLmw"]
	if (own && $1 in locked)
		lock += $column["Ir"]
}
END { if (path) print path, ir + 0, lock + 0, d1 + 0, ll + 0 }'
for dump in out.*; do
	awk -v program="$program" "$sums" locked "$dump"
done >counted

# shellcheck disable=SC2016
awk 'FNR == NR { ir[$1] = $2; lock[$1] = $3; d1[$1] = $4; ll[$1] = $5; next }
	FNR == 1 { printf "%-52s %12s %8s %10s %10s\n", "for each page or event", "instructions", "locked",
		"D1 misses", "LL misses" }
	{
		path = $1; nr = $2; sub(/^[^ ]+ [^ ]+ /, "")
		if (!(path in ir)) { print "count.sh: not counted: " path; exit 1 }
		printf "%-52s %12.0f %8.1f %10.2f %10.2f\n", $0, ir[path] / nr, lock[path] / nr,
			d1[path] / nr, ll[path] / nr
	}' counted paths
