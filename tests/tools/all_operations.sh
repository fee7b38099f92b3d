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

# A run that was given up shows nothing either: of huge pages one in a hundred may be, in which two devices
# that want the same 2 MiB undo each other's work for very long (docs/explorer.md).
ended_well() { # STATUS RUNS MAY-BE-GIVEN-UP
	given_up=$(sed -n 's/^\([0-9]*\) of them were given up.*/\1/p' out)
	[ "$1" = 0 ] && [ "$(tail -n 1 out)" = "no violation in $2 schedules" ] && [ "${given_up:-0}" -le "$3" ]
}

# explore SCENARIO RUNS MAY-BE-GIVEN-UP OPTION...
explore() {
	scenario=$1
	n=$2
	may=$3
	shift 3
	status=0
	timeout 600 "$uhmm" explore "$scenario" --strategy random --runs "$n" --seed $((total + 1)) "$@" >out 2>&1 ||
		status=$?
	total=$((total + n))
	ended_well "$status" "$n" "$may" && return
	tail -n 60 out
	[ ! -f "$scenario.schedule" ] || cat "$scenario.schedule"
	exit 1
}

total=0
end=$(($(date +%s) + ${SECONDS_FOR:-0}))
while :; do
	for options in '' '--switch preemption=full' '--switch waiters-bit=hint --switch swap-device=disk'; do
		# shellcheck disable=SC2086 # a list of words
		explore all-operations "$runs" 0 $options
		# shellcheck disable=SC2086
		explore all-operations-huge $((1 + runs / 50)) $((1 + runs / 5000)) --max-steps 1000000 $options
	done
	[ "$(date +%s)" -lt "$end" ] || break
done
echo "no violation in $total schedules"
