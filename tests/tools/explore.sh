#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
# `uhmm explore`: what it prints, saves and ends with.
#   explore.sh UHMM SCENARIO.so BROKEN.so   the command, the example's shared object, broken_scenarios.c
set -eu
uhmm=$(realpath "$1")
example=$(realpath "$2")
broken=$(realpath "$3")
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
run 2 migrate-vs-fault --json ""
unsaid "no violation"
echo 'T0*3 nonsense' >bad.schedule
run 2 migrate-vs-fault --schedule bad.schedule
echo 'T0*3 C99' >bad.schedule
run 2 migrate-vs-fault --schedule bad.schedule
said "'C99' is no word of a schedule" "C<n>, n up to 32"
echo 'T0*3 T7' >bad.schedule
run 2 migrate-vs-fault --schedule bad.schedule
said "bad.schedule: the schedule does not fit: word 2, T7*1"
printf '# no schedule\nT0*3 T1*1000000000\n' >bad.schedule
run 2 migrate-vs-fault --schedule bad.schedule
said "bad.schedule: the schedule has 1000000003 choices"
printf '# no schedule\nT0*3 T1*4000000000\n' >bad.schedule
run 2 migrate-vs-fault --schedule bad.schedule
said "bad.schedule: line 2: 'T1*4000000000' is no word of a schedule: expected T<task>"
echo 'T0 F T1' >bad.schedule
run 2 migrate-vs-fault --schedule bad.schedule
said "'T1' is no word of a schedule" "or F, which is the last"
printf 'T0\nT1\0T0' >bad.schedule
run 2 migrate-vs-fault --schedule bad.schedule
said "bad.schedule: line 2: a zero byte"
run 2 migrate-vs-fault --schedule /dev/zero
said "/dev/zero: longer than"

# Scenarios that are broken
run 2 no-setup --load "$broken"
said "no-setup: setup(): No such device"
run 1 setup-crashes --load "$broken"
said "Segmentation fault at address"
last_line "VERDICT: assertion"
run 2 no-machine --load "$broken"
said "no-machine: no machine with what configure() says: Invalid argument"
run 2 worker-dies --load "$broken" --workers 2
said "worker process" "was killed by signal 9 (Killed) in schedule 1" "--workers 1 --strategy dfs --seed 1 --runs 1"
run 2 worker-dies --load "$broken" --workers 2 --strategy random --seed 40 --runs 1
said "in schedule 1, of seed 40;" "--workers 1 --strategy random --seed 40 --runs 1"
run 0 worker-dies --load "$broken" --workers 1
# Where there is such a limit; AddressSanitizer needs more than that to begin with.
limited() { # ARGUMENT...
	# shellcheck disable=SC3045 # dash has it
	(ulimit -v 2000000 2>/dev/null && exec "$uhmm" "$@")
}
if limited --version >out 2>&1; then
	ends_with 2 limited explore migrate-vs-fault
	said "address space" "ulimit -v"
fi

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
# A full disk: what was found is found
ln -s /dev/full lost-update.schedule
run 1 lost-update --load "$example"
said "cannot write" "could not be saved: T"
last_line "VERDICT: lost-data"
rm lost-update.schedule
for strategy in random pct; do
	run 1 lost-update --load "$example" --strategy $strategy --runs 1000
	said "uhmm explore lost-update --load $example"
	last_line "VERDICT: lost-data"
	run 1 lost-update --load "$example" --schedule lost-update.schedule
	last_line "VERDICT: lost-data"
done
# Alone on standard output, with what a script needs
"$uhmm" explore lost-update --load "$example" --json - >alone.json 2>out || true
for word in '"strategy": "dfs"' '"switches_bound": 2' '"seed": 1' '"runs": null' '"verdict": "lost-data"' \
	'"complete_up_to": null' '"found_at_run": ' '"schedule": "T0' '"seconds": ' '"command": "uhmm explore lost-update'; do
	grep -qF -e "$word" alone.json || fail "not in the JSON: $word"
done
[ "$(head -n 1 alone.json)$(tail -n 1 alone.json)" = '{}' ] || fail "there is more than JSON"
grep -v '"seconds"' alone.json >alone
grep -v '"seconds"' found.json | cmp -s - alone || fail "to a file JSON is something else"
[ ! -s out ] || fail "something is said beside the JSON"
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
run 0 migrate-vs-fault --strategy pct --runs 100 --progress --json -
said '"undecided": 0' '"runs": 100' '"strategy": "pct"'
unsaid 'no violation'
run 0 walk-vs-migrate --switches-bound 1 --json -
said '"complete_up_to": 1'

finish
