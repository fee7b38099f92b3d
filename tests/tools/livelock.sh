#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
# What docs/livelock.md says: each claim with the command that shows it.
#   livelock.sh UHMM [DATA] [bound]     the command; bound of the explorations that find nothing (1)
set -eu
uhmm=$(realpath "$1")
bound=${3:-1}
# shellcheck source=tests/tools/expect.sh
. "$(dirname "$0")/expect.sh"
cd "$tmp"

last() { # LINE ARGUMENT...
	explored "$@"
	shift
	took=$(sed -n 's/.* \([0-9.]* s\)$/\1/p' out | tail -n 1)
	printf '%-9s %-52s %s\n' "$took" "$(tail -n 1 out)" "$*"
}

finds() { # VERDICT ARGUMENT...
	verdict=$1
	shift
	last "VERDICT: $verdict" "$@"
	seen_again
}

# Complete, nothing found.
clean() { # BOUND ARGUMENT...
	k=$1
	shift
	last "no violation in [0-9]* schedules, complete up to $k" "$@" --switches-bound "$k"
}

# As many schedules as are asked for, nothing found, and all came to an end.
none() { # RUNS ARGUMENT...
	n=$1
	shift
	last "no violation in $n schedules" "$@" --runs "$n"
	unsaid 'given up'
}

wait=--switch=device-private-wait

# The livelock, by each strategy, and the fix
for strategy in dfs random pct; do
	finds livelock hmm-livelock $wait=trylock-spin --strategy $strategy
done
clean "$bound" hmm-livelock
clean "$bound" hmm-livelock-cpu-fault $wait=trylock-spin
clean "$bound" hmm-livelock-one-mapping

# With a reference
for preemption in none lazy full; do
	finds wrong-result hmm-livelock $wait=lock-with-ref --switch preemption=$preemption
done
clean "$bound" hmm-livelock $wait=lock-with-ref --switch migration-blocked-by=pin

# One mapping and two
clean "$bound" hmm-livelock-one-mapping $wait=install-migration-entry
finds livelock hmm-livelock $wait=install-migration-entry
finds livelock hmm-livelock-one-mapping $wait=trylock-spin
clean "$bound" hmm-livelock $wait=install-migration-entry --switch lru-drain=after-unmap

# A bit of its own: good for a migration, and for nobody else who holds the lock
clean "$bound" hmm-livelock $wait=wait-on-migration-flag
finds livelock hmm-livelock-other-holder $wait=wait-on-migration-flag
clean "$bound" hmm-livelock-other-holder

# Somebody who takes the lock again and again
finds starvation hmm-starvation --strategy pct --max-steps 400
none 300 hmm-starvation --strategy random
none 300 hmm-starvation $wait=wait-on-migration-flag --strategy pct --max-steps 400
none 300 hmm-starvation $wait=lock-with-ref --strategy pct --max-steps 400
# (seed 3: a wrong result of 235 steps; others end as starvation, by the fair schedule that follows a long run)
finds wrong-result hmm-starvation --switch migration-blocked-by=reference --strategy random --seed 3
for seed in 1 7 8 12; do
	finds starvation hmm-starvation --switch migration-blocked-by=reference --strategy random --seed $seed
done

# What else helps against the spinning, which is found with no switch at all
finds livelock hmm-livelock $wait=trylock-spin --switches-bound 0
clean "$bound" hmm-livelock $wait=trylock-spin --switch preemption=lazy
clean "$bound" hmm-livelock $wait=trylock-spin --switch preemption=full
clean "$bound" hmm-livelock $wait=trylock-spin --switch range-fault-resched=yes
clean "$bound" hmm-livelock $wait=trylock-spin --switch lru-drain=after-unmap
finds livelock hmm-livelock-other-holder $wait=trylock-spin --switch lru-drain=after-unmap
clean "$bound" hmm-livelock-other-holder $wait=trylock-spin --switch range-fault-resched=yes
clean "$bound" hmm-livelock-other-holder $wait=trylock-spin --switch preemption=lazy

# mmap_lock, twice for reading
finds lock-report mmap-lock-recursion
finds deadlock mmap-lock-recursion --switch lock-order=ignored

finish
