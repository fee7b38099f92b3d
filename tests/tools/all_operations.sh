#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
# Random schedules of the scenarios all-operations and, a fiftieth as many,
# all-operations-huge.
#   all_operations.sh UHMM [DATA]     the command; RUNS of them, or for SECONDS_FOR as many as there is time
#                                     for, each with another seed
set -eu
uhmm=$(realpath "$1")
runs=${RUNS:-2000}
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
cd "$tmp"

# A run that was given up shows nothing either.
ended_well() { # STATUS RUNS
	[ "$1" = 0 ] && [ "$(tail -n 1 out)" = "no violation in $2 schedules" ] && ! grep -q 'given up' out
}

# explore SCENARIO RUNS OPTION...
explore() {
	scenario=$1
	n=$2
	shift 2
	status=0
	timeout 600 "$uhmm" explore "$scenario" --strategy random --runs "$n" --seed $((total + 1)) "$@" >out 2>&1 ||
		status=$?
	total=$((total + n))
	ended_well "$status" "$n" && return
	tail -n 60 out
	[ ! -f "$scenario.schedule" ] || cat "$scenario.schedule"
	exit 1
}

total=0
end=$(($(date +%s) + ${SECONDS_FOR:-0}))
while :; do
	for options in '' '--switch preemption=full' '--switch waiters-bit=hint --switch swap-device=disk'; do
		# shellcheck disable=SC2086 # a list of words
		explore all-operations "$runs" $options
		# shellcheck disable=SC2086
		explore all-operations-huge $((1 + runs / 50)) --max-steps 1000000 $options
	done
	[ "$(date +%s)" -lt "$end" ] || break
done
echo "no violation in $total schedules"
