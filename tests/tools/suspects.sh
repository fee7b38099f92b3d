#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
# The findings that need a schedule (docs/findings.md, from F14 on): each is found, and is not with its mend.
#   suspects.sh UHMM [DATA]     the command
set -eu
uhmm=$(realpath "$1")
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
cd "$tmp"
: >runs
: >wrong

# last PATTERN ARGUMENT...: the last line of the exploration, whole.
last() {
	want=$1
	shift
	echo "$*" >>runs
	timeout 300 "$uhmm" explore "$@" >out 2>&1 || true
	tail -n 1 out | grep -qx "$want" && return
	echo "FAILED: the last line is not '$want', of: explore $*"
	tail -n 20 out | sed 's/^/  | /'
	echo "$*" >>wrong
}

said() {
	grep -qF -e "$1" out || {
		echo "FAILED: not said: $1"
		echo "$1" >>wrong
	}
}

# F14
last 'VERDICT: livelock' huge-livelock --strategy pct
said 'huge_device_wait'
last 'no violation in 100 schedules' huge-livelock --strategy pct --runs 100 --switch preemption=lazy
last 'no violation in 300 schedules' huge-livelock --strategy pct --runs 300 \
	--switch huge-device-wait=entry-wait

# F15
last 'VERDICT: deadlock' split-abba --strategy random
said 'sleeps   for FOLIO'
last 'no violation in 10 schedules' split-abba --strategy random --runs 10 --switch split-lock=tries

# F16
last 'VERDICT: stale-tlb' split-flush --strategy random
last 'no violation in [0-9]* schedules, complete up to 2' split-flush --switches-bound 2 \
	--switch split-flush=before-unlock

# F17
last 'VERDICT: starvation' timeslice --switches-bound 0
last 'no violation in [0-9]* schedules, complete up to 0' timeslice --switches-bound 0 \
	--switch range-fault-resched=yes

# F18 shows nothing in the model.
last 'no violation in [0-9]* schedules, complete up to 1' evict-vs-unmap --switches-bound 1

# Nothing is found: who waits for a folio without a reference leaves no mark on a free one.
last 'no violation in [0-9]* schedules, complete up to 0' waiters --switches-bound 0 \
	--switch waiters-bit=hint
last 'no violation in 1000 schedules' waiters --strategy random --runs 1000 --switch waiters-bit=hint

n=$(wc -l <runs)
bad=$(wc -l <wrong)
echo "$((n - bad)) of $n passed"
[ "$bad" = 0 ]
