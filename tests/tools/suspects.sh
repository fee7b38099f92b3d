#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
# The findings that need a schedule (docs/findings.md, from F14 on): each is found, and is not with its mend.
#   suspects.sh UHMM [DATA] [long]     the command; long: as far as docs/findings.md says, for half an hour
set -eu
uhmm=$(realpath "$1")
how_long=${3:-short}
# shellcheck source=tests/tools/expect.sh
. "$(dirname "$0")/expect.sh"
cd "$tmp"

finds() { # VERDICT ARGUMENT...
	verdict=$1
	shift
	explored "VERDICT: $verdict" "$@"
	seen_again
}

# Complete, nothing found.
clean() { # BOUND LONG-BOUND ARGUMENT...
	bound=$1
	[ "$how_long" = short ] || bound=$2
	shift 2
	explored "no violation in [0-9]* schedules, complete up to $bound" "$@" --switches-bound "$bound"
}

# As many schedules as are asked for, nothing found.
none() { # RUNS LONG-RUNS ARGUMENT...
	runs=$1
	[ "$how_long" = short ] || runs=$2
	shift 2
	explored "no violation in $runs schedules" "$@" --runs "$runs"
}

# F14
finds livelock huge-livelock
finds livelock huge-livelock --strategy pct
said 'huge_device_wait'
for preemption in lazy full; do
	none 100 10000 huge-livelock --strategy pct --switch preemption=$preemption
done
clean 1 2 huge-livelock --switch huge-device-wait=entry-wait
none 300 100000 huge-livelock --strategy random --switch huge-device-wait=entry-wait
none 100 100000 huge-livelock --strategy pct --switch huge-device-wait=entry-wait

# F15
finds deadlock split-abba --strategy random
said 'sleeps   for FOLIO'
clean 0 1 split-abba --switch split-lock=tries --switch fault-folio=kept
none 10 10000 split-abba --strategy random --switch split-lock=tries --switch fault-folio=kept
none 10 1000 split-abba --strategy pct --switch split-lock=tries --switch fault-folio=kept

# F16
finds stale-tlb split-flush --strategy random
clean 2 3 split-flush --switch split-flush=before-unlock
none 100 100000 split-flush --strategy random --switch split-flush=before-unlock

# F17
finds starvation timeslice --switches-bound 0
said 'end_of_timeslice()'
clean 0 2 timeslice --switch range-fault-resched=yes
none 100 100000 timeslice --strategy random --switch range-fault-resched=yes

# F20
for how in stale looked-up; do
	finds assertion split-fault --strategy pct --switch fault-folio=$how
	said 'bad folio freed'
	[ "$how_long" = short ] || finds assertion split-fault --switches-bound 1 --switch fault-folio=$how
done
clean 0 1 split-fault --switch fault-folio=kept
none 10 10000 split-fault --strategy random --switch fault-folio=kept
none 10 10000 split-fault --strategy pct --switch fault-folio=kept

# F22
clears=--switch=huge-device-unmap=clears
# The PMD table that goes has an entry: a debug build says so at once, else the verifier misses the table of that.
finds '\(reference\|assertion\)' huge-collect-vs-exit $clears
finds wrong-result huge-collect-vs-dontneed $clears
# One schedule in some thousands: from the seed that does on.
finds lost-data huge-evict-vs-fork --strategy random --seed 1881 $clears
if [ "$how_long" = long ]; then
	finds lost-data huge-evict-vs-fork $clears
	finds lost-data huge-collect-vs-fork $clears
fi
clean 1 3 huge-collect-vs-dontneed
for what in collect-vs-exit collect-vs-fork evict-vs-fork; do
	clean 0 2 huge-$what
	none 10 100000 huge-$what --strategy random
done

# F18 shows nothing in the model.
clean 1 3 evict-vs-unmap

# Nothing is found: who waits for a folio without a reference leaves no mark on a free one.
clean 0 3 waiters --switch waiters-bit=hint
none 1000 100000 waiters --strategy random --switch waiters-bit=hint

finish
