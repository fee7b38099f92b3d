#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
# The findings that need a schedule (docs/findings.md, from F14 on): each is found, and is not with its mend.
#   suspects.sh UHMM [DATA]     the command
set -eu
uhmm=$(realpath "$1")
# shellcheck source=tests/tools/expect.sh
. "$(dirname "$0")/expect.sh"
cd "$tmp"

# F14
explored 'VERDICT: livelock' huge-livelock --strategy pct
said 'huge_device_wait'
explored 'no violation in 100 schedules' huge-livelock --strategy pct --runs 100 --switch preemption=lazy
explored 'no violation in 300 schedules' huge-livelock --strategy pct --runs 300 \
	--switch huge-device-wait=entry-wait

# F15
explored 'VERDICT: deadlock' split-abba --strategy random
said 'sleeps   for FOLIO'
explored 'no violation in 10 schedules' split-abba --strategy random --runs 10 --switch split-lock=tries

# F16
explored 'VERDICT: stale-tlb' split-flush --strategy random
explored 'no violation in [0-9]* schedules, complete up to 2' split-flush --switches-bound 2 \
	--switch split-flush=before-unlock

# F17
explored 'VERDICT: starvation' timeslice --switches-bound 0
said 'end_of_timeslice()'
explored 'no violation in [0-9]* schedules, complete up to 0' timeslice --switches-bound 0 \
	--switch range-fault-resched=yes

# F18 shows nothing in the model.
explored 'no violation in [0-9]* schedules, complete up to 1' evict-vs-unmap --switches-bound 1

# Nothing is found: who waits for a folio without a reference leaves no mark on a free one.
explored 'no violation in [0-9]* schedules, complete up to 0' waiters --switches-bound 0 \
	--switch waiters-bit=hint
explored 'no violation in 1000 schedules' waiters --strategy random --runs 1000 --switch waiters-bit=hint

finish
