# SPDX-License-Identifier: LGPL-2.1-or-later
# shellcheck shell=sh
# For scripts that look at what a command prints and how it ends: sourced first, `finish` comes last.
# Sets $tmp, a folder that goes in the end.
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
# A line each: functions may run in a pipeline.
: >"$tmp/runs"
: >"$tmp/wrong"

# ends_with STATUSES COMMAND ARGUMENT...: with one of these digits; the output of both kinds is in $tmp/out.
ends_with() {
	want=$1
	shift
	echo "$*" >>"$tmp/runs"
	got=0
	"$@" >"$tmp/out" 2>&1 || got=$?
	case $want in
	*$got*) ;;
	*) fail "status $got, not $want, of: $*" ;;
	esac
}

fail() {
	echo "FAILED: $1"
	[ ! -f "$tmp/out" ] || tail -n 100 "$tmp/out" | sed 's/^/  | /'
	echo "$1" >>"$tmp/wrong"
}

# said TEXT...: each text is a part of a line of the output.
said() {
	for text in "$@"; do
		grep -qF -e "$text" "$tmp/out" || fail "not said: $text"
	done
}

unsaid() {
	if grep -qF -e "$1" "$tmp/out"; then fail "said: $1"; fi
}

# The last line, whole.
last_line() {
	[ "$(tail -n 1 "$tmp/out")" = "$1" ] || fail "the last line is not: $1"
}

# explored PATTERN ARGUMENT...: the last line of an exploration by $uhmm, whole; it may end as it likes.
explored() {
	want=$1
	shift
	echo "$*" >>"$tmp/runs"
	timeout 600 "${uhmm:?}" explore "$@" >"$tmp/out" 2>&1 || true
	tail -n 1 "$tmp/out" | grep -qx "$want" || fail "the last line is not '$want', of: explore $*"
}

# What an exploration found, without what tells of the others.
found() {
	sed -e '/^saved as /d' -e '/^[0-9,]* schedules, /d' -e '/^[0-9,]* of them were given up/d' "$tmp/out"
}

# seen_again: the schedule that was saved last shows what the exploration did, to the step.
seen_again() {
	found >"$tmp/first"
	saved=$(sed -n 's/^saved as \(.*\); to see it again: .*/\1/p' "$tmp/out")
	command=$(sed -n 's/^# uhmm explore //p' "${saved:-/dev/null}")
	[ -n "$command" ] || fail "nothing was saved"
	echo "$command" >>"$tmp/runs"
	# shellcheck disable=SC2086 # a list of options
	timeout 600 "${uhmm:?}" explore $command >"$tmp/out" 2>&1 || true
	found | cmp -s - "$tmp/first" || fail "not the same again: explore $command"
}

finish() {
	echo "$(wc -l <"$tmp/runs") runs, $(wc -l <"$tmp/wrong") wrong"
	[ ! -s "$tmp/wrong" ]
}
