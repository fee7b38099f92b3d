#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
# `uhmm convert`: usage, errors, exit status; a converted trace replays as the original does.
#   convert.sh UHMM TESTDATA     the command, and the tests' folder
set -eu
uhmm=$(realpath "$1")
data=$(realpath "$2")
[ -x "$uhmm" ] || exit 2
# shellcheck source=tests/tools/expect.sh
. "$(dirname "$0")/expect.sh"

run() { # STATUS ARGUMENT...
	status=$1
	shift
	ends_with "$status" "$uhmm" "$@"
}

same() {
	cmp -s "$1" "$2" || fail "$3"
}

# What a replay came to, without what differs from run to run.
replayed() { # TRACE OPTION...
	"$uhmm" replay "$@" --json - | grep -v -e '"trace":' -e '"host_ns":'
}

traces=$data/data/traces
t1=$traces/t1.perf.txt.zst

# Every form replays like the original, and becomes the same trace again.
for name in t1 sqlite3-cold xz-T2 xz-T2-plain; do
	options='--strategy all --offload share=0.3'
	[ "$name" = t1 ] || [ "$name" = sqlite3-cold ] || options=''
	original=$traces/$name.perf.txt.zst
	run 0 convert "$original" "$tmp/a.txt"
	run 0 convert "$original" "$tmp/a.uft"
	run 0 convert "$tmp/a.txt" "$tmp/a.uft.zst"
	run 0 convert "$tmp/a.uft.zst" "$tmp/a.txt.zst" --level 19
	run 0 convert "$tmp/a.txt.zst" "$tmp/b.uft"
	run 0 convert "$tmp/a.uft" "$tmp/b.txt"
	same "$tmp/a.uft" "$tmp/b.uft" "$name: not the same binary again"
	same "$tmp/a.txt" "$tmp/b.txt" "$name: not the same text again"
	# shellcheck disable=SC2086 # a list of words
	replayed "$original" $options >"$tmp/want"
	grep -q '"agreed"' "$tmp/want" || fail "$name: nothing replayed"
	for form in txt uft uft.zst; do
		# shellcheck disable=SC2086
		replayed "$tmp/a.$form" $options >"$tmp/got"
		same "$tmp/want" "$tmp/got" "$name: $form replays otherwise"
	done
done

# Pipes, and the point of a trace by its line or event.
"$uhmm" convert - - <"$t1" | "$uhmm" convert - "$tmp/c.uft"
"$uhmm" convert "$t1" "$tmp/d.uft"
same "$tmp/c.uft" "$tmp/d.uft" "pipes change the trace"
run 0 dump "$tmp/c.uft" --at 20
said "c.uft:20" "address space 1 of the trace"

# Repeated: as many faults as times, and nothing is left over.
run 0 convert --repeat 3 "$t1" "$tmp/r.uft"
run 0 replay "$tmp/r.uft" --json -
said '"faults": 279' '"agreed": 279' '"mm_del": 6' '"violations": 0'
run 0 convert "$tmp/r.uft" "$tmp/r.txt"
run 0 convert --repeat 3 "$tmp/c.uft" "$tmp/r2.txt"
same "$tmp/r.txt" "$tmp/r2.txt" "repeating a converted trace is something else"

# Usage.
run 2 convert
said "expected IN and OUT" "Try 'uhmm convert --help'"
run 2 convert "$t1"
said "expected IN and OUT"
run 2 convert "$t1" "$tmp/x.uft" "$tmp/y.uft"
said "one IN and one OUT"
run 2 convert "$t1" "$tmp/x.csv"
said "x.csv: the name of the output must end in .txt or .txt.zst"
run 2 convert --repeat 0 "$t1" "$tmp/x.uft"
said "--repeat: 0 is not within"
run 2 convert --level 20 "$t1" "$tmp/x.uft"
said "--level: 20 is not within"
run 2 convert --repeat 2 - "$tmp/x.uft"
said "--repeat: standard input cannot be read again"

# Input and output that cannot be had. What was there stays.
echo precious >"$tmp/x.uft"
run 2 convert "$tmp/absent" "$tmp/x.uft"
said "absent: No such file"
run 2 convert "$t1" "$tmp/absent/x.uft"
said "absent/x.uft: cannot write: No such file"
run 2 convert "$data/data/broken/bad-map.txt" "$tmp/x.uft"
said "bad-map.txt:2: "
run 2 convert "$data/data/broken/empty.txt" "$tmp/x.uft"
said "empty.txt:1: the trace is empty"
head -c 1000 "$tmp/c.uft" >"$tmp/cut.uft"
run 2 convert "$tmp/cut.uft" "$tmp/x.uft"
said "cut.uft: byte 1000: the trace ends without its END record"
[ "$(cat "$tmp/x.uft")" = precious ] || fail "a failed conversion changed its output"
[ "$(find "$tmp" -name 'x.uft*' | wc -l)" = 1 ] || fail "a failed conversion left something behind"
run 2 replay "$tmp/cut.uft"
said "cut.uft: byte 1000: the trace ends"
run 0 replay --keep-going "$tmp/cut.uft"
said "1 malformed lines skipped"
run 1 convert --keep-going "$data/data/broken/bad-map.txt" "$tmp/x.uft"
said "warning: " "bad-map.txt:2: " "1 malformed lines skipped"
run 0 replay "$tmp/x.uft"
said "1 malformed lines skipped"

run 0 convert --progress "$t1" "$tmp/x.uft"

finish
