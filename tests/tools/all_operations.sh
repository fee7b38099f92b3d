#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
# Random schedules of the scenario all-operations.
#   all_operations.sh UHMM [DATA]     the command; RUNS of them, or for SECONDS_FOR as many as there is time
#                                     for, each with another seed
set -eu
uhmm=$(realpath "$1")
runs=${RUNS:-5000}
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
cd "$tmp"

# A run that was given up shows nothing either.
ended_well() { # STATUS
	[ "$1" = 0 ] && [ "$(tail -n 1 out)" = "no violation in $runs schedules" ] &&
		! grep -q 'given up' out
}

# explore SEED OPTION...
explore() {
	seed=$1
	shift
	status=0
	timeout 600 "$uhmm" explore all-operations --strategy random --runs "$runs" --seed "$seed" "$@" >out 2>&1 ||
		status=$?
	ended_well "$status" && return
	tail -n 60 out
	[ ! -f all-operations.schedule ] || cat all-operations.schedule
	exit 1
}

total=0
end=$(($(date +%s) + ${SECONDS_FOR:-0}))
while :; do
	for options in '' '--switch preemption=full' '--switch waiters-bit=hint --switch swap-device=disk'; do
		# shellcheck disable=SC2086 # a list of words
		explore $((total + 1)) $options
		total=$((total + runs))
	done
	[ "$(date +%s)" -lt "$end" ] || break
done
echo "no violation in $total schedules"
