#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
# The frame of the command: usage, errors, exit status; and `uhmm dump`.
#   command.sh UHMM TESTDATA     the command, and the tests' folder
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

run 2
said "usage: uhmm COMMAND"
run 0 --help
said "replay" "convert" "conform" "dump" "bench" "explore"
run 0 help
said "usage: uhmm COMMAND"
run 0 --version
said "models Linux"
run 2 nonsense
said "uhmm: unknown command 'nonsense'" "Try 'uhmm --help'"
run 2 --nonsense
said "unknown option '--nonsense'"
for command in replay convert conform dump bench explore; do
	run 0 $command --help
	said "usage: uhmm $command"
	run 0 help $command
	said "usage: uhmm $command"
	run 2 $command --nonsense
	said "uhmm $command: unrecognized option '--nonsense'" "Try 'uhmm $command --help'"
done

# Output that cannot be written is an error.
if [ -w /dev/full ]; then
	echo "$*" >>"$tmp/runs"
	got=0
	"$uhmm" --help >/dev/full 2>"$tmp/out" || got=$?
	[ "$got" = 2 ] || fail "status $got, not 2, with a full disk"
	said "standard output: cannot write"
fi

# dump: vectors.
cat >"$tmp/two.vec" <<'END'
# comments first
case first
p0 mmap 200000000000 4 rw private,anon
= ok
p0 cpu_write 200000000000 2 1
= ok
p0 munmap 200000000000 4
= ok
case second
p0 mmap 300000000000 4 r private,anon
= ok
p0 fork p1
= ok
p1 mmap 400000000000 1 rw private,anon
= ok
END
run 2 dump "$tmp/two.vec"
said "has several cases"
run 0 dump "$tmp/two.vec" --case first
said "two.vec:7: case first, after: p0 munmap" "process p0"
unsaid 200000000000-
run 0 dump "$tmp/two.vec" --at 6
said "two.vec:5: case first, after: p0 cpu_write" "process p0" 200000000000
unsaid 300000000000
run 0 dump "$tmp/two.vec" --at 2
said "case first, at its begin"
run 0 dump "$tmp/two.vec" --case second
said "process p0" "process p1" 300000000000 400000000000
run 0 dump "$tmp/two.vec" --case second --mm 2
said "process p1" 400000000000
unsaid "process p0"
run 2 dump "$tmp/two.vec" --case second --mm 3
said "no address space 3"
run 2 dump "$tmp/two.vec" --case first --at 12
said "no case is called 'first'"
run 2 dump "$tmp/two.vec" --case third
said "no case is called 'third'"
run 2 dump "$tmp/two.vec" --at 1
said "two.vec:1: there is no case"
run 0 dump "$tmp/two.vec" --at 15
run 2 dump "$tmp/two.vec" --at 16
said "two.vec: --at 16: it has only 15 lines"
run 2 dump "$tmp/two.vec" --at 0
said "--at: 0 is not within"
run 2 dump "$tmp/two.vec" --mm x
said "--mm: 'x' is not a number"
run 2 dump
said "no TRACE or VECTOR given"
run 2 dump "$tmp/two.vec" "$tmp/two.vec"
said "one TRACE or VECTOR at a time"
run 2 dump "$tmp/absent"
said "absent" "No such file"
printf 'case a\np0 madvise 200000000000 1 soft_offline\n= ok\n' >"$tmp/lacking.vec"
run 2 dump "$tmp/lacking.vec"
said "lacking.vec:2: " "not modelled yet"
printf 'case a\np0 nonsense\n' >"$tmp/bad.vec"
run 2 dump "$tmp/bad.vec"
said "bad.vec:2: unknown operation 'nonsense'"

# dump: traces.
trace=$data/data/traces/t1.perf.txt.zst
run 0 dump "$trace"
said "t1.perf.txt.zst:273" "no address space at that point"
run 0 dump "$trace" --at 40
said "t1.perf.txt.zst:40" "address space 1 of the trace"
run 0 dump "$trace" --at 273
run 2 dump "$trace" --at 274
said "t1.perf.txt.zst: --at 274: it has only 273 lines"
unsaid "address space 1"
run 2 dump "$trace" --at 40 --mm 77
said "no address space 77"
run 2 dump "$trace" --case a
said "is not a vector"
run 2 dump "$data/data/broken/not-a-trace.txt"

# replay: output never goes over what is to be replayed, by whatever name.
run 0 convert "$trace" "$tmp/t1.txt"
cp "$tmp/t1.txt" "$tmp/kept.txt"
ln -s t1.txt "$tmp/link.txt"
run 2 replay "$trace" "$tmp/t1.txt" --json "$tmp/t1.txt"
said "--json: $tmp/t1.txt is a trace to be replayed"
run 2 replay "$tmp/t1.txt" --json "$tmp/link.txt"
said "link.txt is a trace to be replayed"
# A name was forgotten: the first trace stands where it should be.
run 2 replay --json "$tmp/t1.txt" "$trace"
said "t1.txt: is there and is something else"
printf '\000kept' >"$tmp/nul.bin"
run 2 replay --json "$tmp/nul.bin" "$trace"
cmp -s "$tmp/t1.txt" "$tmp/kept.txt" || fail "a trace was written over"
run 0 replay - --json "$tmp/new.json" <"$tmp/t1.txt"
[ -s "$tmp/new.json" ] || fail "no JSON was written"
run 0 replay - --json "$tmp/new.json" <"$tmp/t1.txt"

# replay: what is no text yet.
for kind in '\037\213\010\000:gzip data' '\3757zXZ\000:xz data' 'BZh91AY&SY:bzip2 data' 'PERFILE2:perf script -i'; do
	# shellcheck disable=SC2059 # the escapes are the format's
	printf "${kind%%:*}" >"$tmp/foreign"
	run 2 replay "$tmp/foreign"
	said "foreign:1: this is " "${kind#*:}"
done
run 2 replay "$tmp"
said "uhmm replay: $tmp: Is a directory"
echo 'BZh 5/5 [000] 1.000000: page-faults:     7f0000001000     7f1111001000' >"$tmp/thread.txt"
run 0 replay "$tmp/thread.txt"

# replay: what was asked for and is not there.
run 0 replay "$trace" --offload tid=1
said "the device makes no access"
run 0 replay "$trace" --offload tid=26594
unsaid "the device makes no access"
run 0 replay "$trace"
unsaid "the device makes no access"
echo 'ls 5/5 [000] 1.000000: cycles:u:     7f0000001000     7f1111001000' >"$tmp/cycles.txt"
run 0 replay "$tmp/cycles.txt"
said "the trace has no faults, but 1 samples of other events: record 'page-faults'"

finish
