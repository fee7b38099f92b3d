#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
# Explorations whose outcome is known, as a table with their sizes and times.
#   run.sh UHMM test|long      the short ones of `./dev test`, or the others
set -eu
uhmm=$(realpath "$1")
kind=$2
table=$(realpath "$(dirname "$0")/explorations.txt")
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
cd "$tmp"

printf '%-32s %-24s %10s %11s %8s\n' scenario outcome schedules steps seconds
# shellcheck disable=SC2086 # the last word is a list of options
grep -v '^#' "$table" | while read -r when expected scenario options; do
	[ "$when" = "$kind" ] || continue
	status=0
	timeout 3000 "$uhmm" explore "$scenario" $options >out 2>&1 </dev/null || status=$?
	case $expected in
	complete) last='^no violation in [0-9]* schedules, complete up to [0-9]*$' want=0 ;;
	*) last="^VERDICT: $expected\$" want=1 ;;
	esac
	if [ "$status" != "$want" ] || ! tail -n 1 out | grep -q "$last"; then
		echo "FAILED: explore $scenario $options: status $status, not: $expected"
		tail -n 30 out
		: >wrong
		continue
	fi
	outcome=$(tail -n 1 out | sed 's/.*, \(complete\)/\1/; s/VERDICT: //')
	# N schedules, N steps, [N states,] SECONDS s
	size=$(grep '^[0-9,]* schedules, ' out | awk '{ printf "%10s %11s %8s", $1, $3, $(NF - 1) }')
	printf '%-32s %-24s %s\n' "$scenario" "$outcome" "$size${options:+  $options}"
done

# Whoever does the work, the counts are the same.
if [ "$kind" = test ]; then
	for workers in 1 3; do
		timeout 600 "$uhmm" explore combined-vs-fault-two-mms --workers $workers >out
		sed 's/, [0-9.]* s$//' out | tail -n 2 >"by-$workers"
	done
	if ! cmp -s by-1 by-3; then
		echo "FAILED: 1 and 3 workers find something else"
		cat by-1 by-3
		: >wrong
	fi
fi
[ ! -e wrong ]
