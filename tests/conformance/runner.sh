#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
# Does `uhmm conform` see what it should? Vectors are made up here, with right and wrong answers.
#   runner.sh UHMM VECTORS     the command, and the folder with the recorded vectors
set -eu
uhmm=$(realpath "$1")
vectors=$(realpath "$2")
[ -x "$uhmm" ] || exit 2
# shellcheck source=tests/tools/expect.sh
. "$(dirname "$0")/../tools/expect.sh"
# vector NAME: standard input as a file.
vector() { cat >"$tmp/$1"; }

conform() { # STATUS ARGUMENT..., in $tmp
	status=$1
	shift
	ends_with "$status" env -C "$tmp" "$uhmm" conform "$@"
}

# A malformed vector is refused with file and line, before anything runs.
malformed() { # LINE TEXT, the vector on standard input
	vector bad.vec
	conform 2 good.vec bad.vec
	said "bad.vec:$1: " "$2"
	unsaid passed
}

vector good.vec <<'END'
# two cases, one spelled in an unusual way

case first
p0 mmap 200000000000 4 rw private,anon
= ok
p0 cpu_write 200000000000 2 1
= ok
p0 cpu_read 0x200000000000 4
= ok  data=1000004,1000005,0x1,0
p0 pagemap 200000000000 4
= ok map=09,09x1,01,01
p0 munmap 200000001000 1
= ok
p0 cpu_read 200000000000 4
= sigsegv@1
p0 mprotect 200000000000 2 r
= err=ENOMEM

case second
p0 mmap 200000000000 1 rw private,anon
= ok
p0 fork p1
= ok
p1 cpu_write 200000000000 1 7
= ok
p1 exit
= ok
p0 fork p1
= ok
p1 cpu_read 200000000000 1
= ok data=0
END
conform 0 good.vec
last_line "2 passed, 0 failed"
unsaid case
conform 0 --content tag good.vec
last_line "2 passed, 0 failed"
conform 0 --device-pfn own good.vec
last_line "2 passed, 0 failed"
conform 0 --differential good.vec
last_line "2 passed, 0 failed"
conform 0 good.vec good.vec
last_line "4 passed, 0 failed"
conform 0 --case second good.vec
last_line "1 passed, 0 failed"
conform 0 -v good.vec
said "case first" "p0 munmap 200000001000 1" "= sigsegv@1" "= ok data=1000004..1000005,0x2"
last_line "2 passed, 0 failed"
conform 0 - <"$tmp/good.vec"
last_line "2 passed, 0 failed"

# There is a swap device: pages go there and come back, also by a fork and a device.
vector swapped.vec <<'END'
case swapped
p0 mmap 200000000000 4 rw private,anon
= ok
p0 cpu_write 200000000000 4 1
= ok
p0 madvise 200000000000 4 pageout
= ok
p0 pagemap 200000000000 4
= ok map=02x4
p0 snapshot d0 200000000000 4
= ok cpages=4 perm=00x4
p0 cpu_read 200000000000 1
= ok data=1000004
p0 fork p1
= ok
p0 cpu_read 200000001000 1
= ok data=1000005
p0 pagemap 200000000000 4
= ok map=01,09,02x2
p1 pagemap 200000000000 4
= ok map=01,02x3
p1 cpu_write 200000001000 1 2
= ok
p0 cpu_write 200000002000 1 3
= ok
p1 cpu_read 200000000000 4
= ok data=1000004,2000007,1000006,1000007
p0 dev_read d0 200000000000 4
= ok cpages=4 faults=1 data=1000004,1000005,3000010,1000007
p0 madvise 200000000000 4 free
= ok
p0 madvise 200000000000 4 cold
= ok
END
conform 0 swapped.vec
last_line "1 passed, 0 failed"
conform 0 --content tag swapped.vec
last_line "1 passed, 0 failed"
conform 0 --differential swapped.vec
last_line "1 passed, 0 failed"

# Every kind of answer, changed: each must be found, with its line.
cp "$tmp/good.vec" "$tmp/answers"
line=0
while read -r first rest; do
	line=$((line + 1))
	[ "$first" = "=" ] || continue
	case $rest in
	*data=* | *map=*) other=$(echo "$rest" | sed 's/\(.*\)[0-9]$/\17/') ;;
	ok) other=err=EINVAL ;;
	*) other=ok ;;
	esac
	# A fork that should fail leaves no process for the lines after it.
	previous=$(sed -n "$((line - 1))p" "$tmp/good.vec")
	case $previous in *fork*) continue ;; esac
	sed "${line}s/.*/= $other/" "$tmp/good.vec" >"$tmp/changed.vec"
	conform 1 changed.vec
	said "changed.vec:$((line - 1)): case " "$previous" "expected: ${other%% *}" "got: "
	last_line "1 passed, 1 failed"
done <"$tmp/answers"

# Differences are counted by case, and printed up to a limit.
{
	echo "case many"
	printf 'p0 mmap 200000000000 1 rw private,anon\n= ok\n'
	for _ in 1 2 3 4 5 6 7 8 9 10; do printf 'p0 cpu_read 200000000000 1\n= ok data=5\n'; done
} | vector many.vec
conform 1 many.vec
said "many.vec:4: case many: p0 cpu_read 200000000000 1" "expected: ok data=5" "ok data=0" \
	"2 more, see them with -v"
last_line "0 passed, 1 failed"
conform 1 -v many.vec
[ "$(grep -c expected: "$tmp/out")" = 10 ] || fail "-v does not print all differences"

# A device: each field of its answers counts.
vector device.vec <<'END'
case device
p0 mmap 200000000000 4 rw private,anon
= ok
p0 dev_write d0 200000000000 4 3
= ok cpages=4 faults=1
p0 dev_read d0 200000000000 4
= ok cpages=4 faults=0 data=3000010..3000013
p0 migrate_to_dev d0 200000000000 4
= ok cpages=4 data=3000010..3000013
p0 snapshot d0 200000000000 4
= ok cpages=4 perm=22x4
p0 cpu_read 200000000000 4
= ok data=3000010..3000013
p0 flags d0 0
= err=EINVAL
END
conform 0 device.vec
last_line "1 passed, 0 failed"
for edit in '5s/faults=1/faults=2/' '5s/cpages=4/cpages=3/' '7s/..3000013/..3000012,9/' \
	'7s/ data=.*//' '9s/cpages=4/cpages=4 faults=1/' '11s/22x4/22x3,02/' '11s/perm/map/' \
	'15s/EINVAL/EFAULT/'; do
	sed "$edit" "$tmp/device.vec" >"$tmp/changed.vec"
	conform 1 changed.vec
	said "expected: " "got: "
	last_line "0 passed, 1 failed"
done

# What the two ways to the device did differently once.
vector twice.vec <<'END'
case allocation-fails
p0 mmap 200000000000 8 rw private,anon
= ?
p0 flags d0 1
= ?
p0 migrate_to_dev d0 200000000000 8
= ?
case device-tables-lost
p0 mmap 200000000000 8 rw private,anon
= ?
p0 migrate_to_dev d0 200000000000 8
= ?
p0 mprotect 200000000000 4 r
= ?
p0 migrate_to_dev d0 200000000000 8
= ?
case read-only-on-the-device
p0 mmap 200000000000 8 rw private,anon
= ?
p0 cpu_write 200000000000 8 1
= ?
p0 migrate_to_dev d0 200000004000 2
= ?
p0 fork p1
= ?
p1 migrate_to_dev d0 200000004000 2
= ?
p1 migrate_to_dev d0 200000000000 8
= ?
p0 migrate_to_dev d0 200000005000 3
= ?
p0 dev_write d0 200000000000 8 2
= ?
p1 cpu_read 200000000000 8
= ?
case huge-pages-and-no-memory
p0 mmap 200000000000 1024 rw private,anon
= ?
p0 madvise 200000000000 1024 hugepage
= ?
p0 flags d0 1
= ?
p0 migrate_to_dev d0 200000003000 1
= ?
p0 dev_read d0 200000200000 9
= ?
p0 flags d0 1
= ?
p0 migrate_to_dev d0 200000201000 8
= ?
p0 dev_write d0 200000000000 1024 3
= ?
END
conform 0 --differential twice.vec
last_line "4 passed, 0 failed"

# The checked variant, if it was built.
if [ -x "$(dirname "$uhmm")/uhmm-checked" ]; then
	conform 0 --check good.vec device.vec
	last_line "3 passed, 0 failed"
	conform 0 --check --differential good.vec device.vec twice.vec
	last_line "7 passed, 0 failed"
fi

# "?" takes any answer.
sed 's/^= .*/= ?/' "$tmp/device.vec" >"$tmp/any.vec"
conform 0 any.vec
last_line "1 passed, 0 failed"

# Not modelled yet: the case fails, says so, and stops; another goes on.
{
	printf 'case soft_offline\np0 madvise 200000000000 1 soft_offline\n= ok\n'
	printf 'p0 cpu_read 200000000000 1\n= ok data=0\n'
	printf 'case error\np0 madvise 200000000000 1 soft_offline\n= err=EOPNOTSUPP\n'
	printf 'case any\np0 madvise 200000000000 1 soft_offline\n= ?\n'
	cat "$tmp/good.vec"
} | vector lacking.vec
conform 1 lacking.vec
said "lacking.vec:2: case soft_offline: " "not modelled yet" "lacking.vec:7: case error" \
	"lacking.vec:10: case any"
unsaid "lacking.vec:4"
last_line "2 passed, 3 failed"
conform 1 --differential lacking.vec
said "not modelled yet"
last_line "2 passed, 3 failed"

# No cases.
vector none.vec <<'END'
# nothing here
END
conform 2 none.vec
said "0 passed, 0 failed" "no cases"
conform 2 --case third good.vec
said "no case is called 'third'"

# Malformed vectors.
malformed 1 "before the first 'case" <<'END'
p0 exit
END
malformed 1 "without an operation" <<'END'
= ok
END
malformed 1 "'case NAME' expected" <<'END'
case
END
malformed 1 "begins neither" <<'END'
mmap
END
malformed 2 "has no operations" <<'END'
case a
case b
END
begin='case a
p0 mmap 200000000000 4 rw private,anon
= ok'
one() { printf '%s\n%s\n= ok\n' "$begin" "$1"; }
one "p0 mmup 200000000000 4" | malformed 4 "unknown operation 'mmup'"
one "p0" | malformed 4 "an operation expected"
one "p1 munmap 200000000000 4" | malformed 4 "there is no process p1"
one "p999 munmap 200000000000 4" | malformed 4 "not a process"
one "p0 fork p0" | malformed 4 "there is a process p0 already"
one "p0 munmap 200000000000" | malformed 4 "too few arguments"
one "p0 munmap 200000000000 4 4" | malformed 4 "too many arguments"
one "p0 exit now" | malformed 4 "too many arguments"
one "p0 munmap 20000000000g 4" | malformed 4 "not a hexadecimal number"
one "p0 munmap 200000000000 4k" | malformed 4 "not a decimal number"
one "p0 munmap 200000000000 -4" | malformed 4 "not a decimal number"
one "p0 munmap 200000000000 99999999999999999999" | malformed 4 "not a decimal number"
one "p0 munmap 200000000000 9999999999999999999" | malformed 4 "more than an address space"
one "p0 cpu_read 200000000000 9999999999" | malformed 4 "at most"
one "p0 mprotect 200000000000 4 q" | malformed 4 "not a protection"
one "p0 madvise 200000000000 4 please" | malformed 4 "unknown advice 'please'"
one "p0 dev_read d4 200000000000 4" | malformed 4 "not a device"
one "p0 mmap 200000000000 4 rw private" | malformed 4 "not map flags"
one "p0 mmap 200000000000 4 rw shared,file 8 0" | malformed 4 "files 0 to 7"
one "p0 migrate_on_fault d0 200000000000 4 x" | malformed 4 "only 'w'"
one "p0 cpu_read 200000000000 4
p0 exit" | malformed 5 "operation of line 4 has no answer"
printf '%s\n%s' "$begin" "p0 exit" | malformed 4 "operation of line 4 has no answer"
printf '%s\np0 exit\n= ok\np0 exit\n= ok\n' "$begin" | malformed 6 "there is no process p0"
printf '%s\np0 exit\n= o\0k\n' "$begin" | malformed 5 "NUL"
answer() { printf '%s\np0 cpu_read 200000000000 4\n= %s\n' "$begin" "$1"; }
answer "" | malformed 5 "an answer is"
answer "okay" | malformed 5 "an answer is"
answer "ok and so on" | malformed 5 "unknown field"
answer "ok data=" | malformed 5 "a number expected"
answer "ok data=1,,2" | malformed 5 "a number expected"
answer "ok data=3..1" | malformed 5 "a larger number"
answer "ok data=1x0" | malformed 5 "a count expected"
answer "ok data=1x99999999999" | malformed 5 "too many values"
answer "ok data=1..99999999999" | malformed 5 "too many values"
answer "ok data=1 data=2" | malformed 5 "twice"
answer "ok data=1;" | malformed 5 "something follows"
answer "ok map=1" | malformed 5 "two hexadecimal digits"
answer "err=EFAULTY" | malformed 5 "name of an error"
answer "sigsegv" | malformed 5 "an answer is"
answer "sigsegv@" | malformed 5 "a number expected"

# Usage.
conform 2
said "no FILE given" "Try 'uhmm conform --help'"
conform 2 --nonsense good.vec
said "--nonsense" "Try 'uhmm conform --help'"
conform 2 --content letters good.vec
said "--content: 'letters' is none of: tag, bytes"
conform 2 --device-pfn none good.vec
said "--device-pfn: 'none' is none of: physical, own"
conform 2 absent.vec
said "absent.vec: No such file"
conform 0 --help
said "usage: uhmm conform"

# The parser takes every recorded file, of kinds that are not modelled too.
for file in "$vectors"/*.vec; do
	conform 2 --case "no such case" "$file"
	said "no case is called 'no such case'"
done

finish
