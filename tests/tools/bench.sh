#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
# `uhmm bench`: what it prints, writes and ends with. How long things take is never asked.
#   bench.sh UHMM DATA     the command; DATA is not used
set -eu
uhmm=$(realpath "$1")
# shellcheck source=tests/tools/expect.sh
. "$(dirname "$0")/expect.sh"
cd "$tmp"

run() { # STATUS ARGUMENT...; 01: either, by how fast it is
	status=$1
	shift
	ends_with "$status" timeout 300 "$uhmm" bench "$@"
}

# Figures, and the same again compared with itself.
run 01 --quick --rounds 1 --only fault --only huge --json now.json
said "write fault, sequential" "huge pages to RAM" "1 rounds"
grep -q '"fault_sequential"' now.json || fail "not in the JSON: fault_sequential"

# old.json FACTOR: as if everything had taken FACTOR of what it takes.
old() {
	sed -E "s/\"variant\": \"[a-z]*\"/\"variant\": \"$variant\"/" now.json |
		awk -v factor="$1" '/"samples"/ { inside = 1 }
			inside && /^ *[0-9.]+(e[-+]?[0-9]+)?,?$/ {
				comma = sub(/,$/, ""); printf "%.9f%s\n", $1 * factor, comma ? "," : ""; next }
			/\]/ { inside = 0 }
			{ print }' >old.json
}

variant=$(sed -n 's/.*"variant": "\([a-z]*\)".*/\1/p' now.json)
old 0.001
run 1 --quick --rounds 1 --only fault --compare old.json
said "Compared with old.json" "worse" "3 became worse"
old 1000
run 01 --quick --rounds 1 --only fault --compare old.json
said "better" "0 became worse"
run 01 --quick --rounds 1 --only walk --compare old.json
said "no figure was measured both times"
run 2 --rounds 1 --only fault --compare old.json
said "old.json: measured with --quick"
variant=other
old 1
run 2 --quick --only fault --compare old.json
said "measured with the other variant"
run 2 --compare missing.json
said "--compare: missing.json: cannot read"
echo '{"schema":' >bad.json
run 2 --compare bad.json
said "--compare: bad.json: line"
echo '{"schema": 2, "figures": {}}' >bad.json
run 2 --compare bad.json
said "not what \`uhmm bench --json\` writes"
echo "{\"schema\": 1, \"variant\": \"$(sed -n 's/.*"variant": "\([a-z]*\)".*/\1/p' now.json)\",
	\"quick\": true, \"figures\": {\"unmap\": {\"samples\": [\"fast\"]}}}" >bad.json
run 2 --quick --compare bad.json
said "a sample that is no number"

# Floor and limits are measured beside what they are for.
run 01 --quick --rounds 1 --only floor
said "radix tree alone" "random order over 4 GiB" "x limit"
run 01 --quick --rounds 1 --only threads --json threads.json
said "two threads / one, fresh machine" "two threads that share no machine" "in an mm of its own" \
	"in the same page tables" "both write one page" "read the same pages home"
# On a busy machine there may not be two free CPUs in that round; each figure that is missing says so.
[ "$(grep -c '"median"\|"note"' threads.json)" = 9 ] || fail "not nine figures of two threads, or why not"
ends_with 0 taskset -c "$(taskset -cp $$ | sed 's/.*[ ,-]//')" "$uhmm" bench --quick --rounds 1 --only threads
said "needs two CPUs" "2 with a budget not measured."
run 01 --quick --rounds 1 --only sched
said "a run of the explorer: put back" "with a machine built for it"

# Memory by kind; its budget is no time.
run 01 --memory --quick
said "4 KiB page in RAM" "page tables" "VMA" "mm" "4 KiB page on a device"

run 0 --populate 64M
said "64.0 MiB of RAM" "populated" "walked" "unmapped" "bytes a page" "peak resident size"
run 2 --populate 3M
said "multiples of 2M"
run 2 --populate 0
run 2 --populate huge
said "--populate: 'huge' is not a size"
if [ -r /proc/meminfo ] && [ "$(awk '/MemAvailable/ { print $2 }' /proc/meminfo)" -lt 80000000 ]; then
	run 2 --populate 8T
	said "takes about" "are available"
fi

# Growth: all kinds of sizes are there, in the table and in the plot.
run 0 --growth --quick --svg growth.svg
said "so many pages" "so many VMAs" "so many processes" "so many devices" "exponent"
for text in "<svg" "so many pages" "so many devices" "</svg>"; do
	grep -qF -e "$text" growth.svg || fail "not in the plot: $text"
done
! grep -q nan growth.svg || fail "a number in the plot is none"
run 2 --growth --svg no/such/folder.svg
said "no/such/folder.svg"

run 0 --claims --quick
said "in modelled cycles" "as a dependent read takes here" "pages of a walk" "4 KiB pages" "huge pages" "within"

run 2 --memory --growth
said "one at a time"
run 2 --growth --rounds 3
said "do not go"
run 2 --svg a.svg
said "--svg goes with --growth"
run 2 --compare old.json --json -
said "--compare prints where"

finish
