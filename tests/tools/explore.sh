#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
# `uhmm explore`: what it prints, saves and ends with.
#   explore.sh UHMM SCENARIO.so     the command, and the example's shared object
set -eu
uhmm=$(realpath "$1")
example=$(realpath "$2")
# shellcheck source=tests/tools/expect.sh
. "$(dirname "$0")/expect.sh"
cd "$tmp"

run() { # STATUS ARGUMENT...
	status=$1
	shift
	ends_with "$status" timeout 300 "$uhmm" explore "$@"
}

# Usage
run 2
said "no SCENARIO given"
run 2 no-such-scenario
said "no scenario is called 'no-such-scenario'"
run 2 migrate-vs-fault combined-abba
said "one SCENARIO at a time"
run 2 migrate-vs-fault --switch preemption
said "is not NAME=VALUE"
run 2 migrate-vs-fault --switch no-such=1
said "no switch is called 'no-such'"
run 2 migrate-vs-fault --switch preemption=maybe
said "maybe" "lazy"
run 2 migrate-vs-fault --strategy best
run 2 migrate-vs-fault --switches-bound many
run 2 migrate-vs-fault --runs 0
run 2 migrate-vs-fault --max-steps 0
run 2 migrate-vs-fault --max-steps 4294967296
run 2 migrate-vs-fault --json no-such-folder/found.json
said "no-such-folder/found.json: cannot write"
run 2 migrate-vs-fault --schedule no-such-file
said "no-such-file"
run 2 migrate-vs-fault --load no-such-file.so
said "no-such-file.so"
cp "$example" again.so
run 2 lost-update --load "$example" --load again.so
said "again.so: no scenario of it could be registered"
echo 'T0*3 nonsense' >bad.schedule
run 2 migrate-vs-fault --schedule bad.schedule
echo 'T0*3 T7' >bad.schedule
run 2 migrate-vs-fault --schedule bad.schedule
said "the schedule does not fit: word 2, T7*1"

# What there is
run 0 --list
said "migrate-vs-fault" "combined-abba" "preemption=none|lazy|full" "combined-wait=back-off|naive"
run 0 --list --load "$example"
said "lost-update"

# A fault: found, saved, seen again, the same whoever looks for it
run 0 lost-update --load "$example" --switches-bound 0
last_line "no violation in 2 schedules, complete up to 0"
run 1 lost-update --load "$example" --json found.json
said "2 added one, and the sum is 1" "CPU 0" "CPU 1" "handle_pte_fault()"
last_line "VERDICT: lost-data"
[ -s lost-update.schedule ] || fail "no schedule was saved"
mv lost-update.schedule one.schedule
grep -v ' s$' out >one
run 1 lost-update --load "$example" --workers 3
grep -v ' s$' out | cmp -s - one || fail "three workers find something else"
cmp -s lost-update.schedule one.schedule || fail "three workers save something else"
rm lost-update.schedule
run 1 lost-update --load "$example" --schedule one.schedule
said "2 added one, and the sum is 1"
last_line "VERDICT: lost-data"
[ ! -e lost-update.schedule ] || fail "a schedule that was given is saved again"
mkdir lost-update.schedule
run 1 lost-update --load "$example"
said "could not be saved: T"
last_line "VERDICT: lost-data"
rmdir lost-update.schedule
for strategy in random pct; do
	run 1 lost-update --load "$example" --strategy $strategy --runs 1000
	said "uhmm explore lost-update --load $example"
	last_line "VERDICT: lost-data"
	run 1 lost-update --load "$example" --schedule lost-update.schedule
	last_line "VERDICT: lost-data"
done
for word in '"traceEvents"' '"verdict": "lost-data"' '"thread_name"' '"name": "handle_pte_fault"'; do
	grep -qF -e "$word" found.json || fail "not in the JSON: $word"
done

# A switch that makes the difference
run 1 combined-abba --switch combined-wait=naive --strategy random --runs 5000
said "deadlock: nobody can go on" "walk 0" "FOLIO" "uhmm__do_swap_page()"
last_line "VERDICT: deadlock"
run 1 combined-abba --switch combined-wait=naive --schedule combined-abba.schedule
last_line "VERDICT: deadlock"
run 0 combined-abba --strategy random --runs 200
last_line "no violation in 200 schedules"

# None where there is none
run 0 migrate-vs-fault --switches-bound 1
grep -q '^no violation in [0-9]* schedules, complete up to 1$' out || fail "not complete up to 1"
for scenario in walk-vs-zap move-vs-fault exclusive-vs-zap notifier-vs-zap unplug-vs-use; do
	run 0 $scenario --switches-bound 1
	grep -q ', complete up to 1$' out || fail "$scenario is not complete up to 1"
done
run 0 migrate-vs-fault --strategy pct --runs 100 --json -
said '"undecided": 0'

finish
