#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
# symbols.sh SHARED STATIC CHECKED: the names that the three libraries show.
#   shared:  exports uhmm_[a-z]* alone, all of them at a version
#   static:  every global symbol is uhmm_* (others would clash with a program's own);
#            uhmm_[a-z]* is visible, uhmm__* is hidden
#   checked: the same public functions as the plain library, and perhaps more
set -eu
shared=$1 static=$2 checked=$3
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
: >"$tmp/report"

fail() { # TITLE, offending names on standard input
	sed "s|^|$1: |" >>"$tmp/report"
}

# Defined global symbols of an archive: "VISIBILITY NAME".
globals() {
	readelf -sW "$1" | awk '
		($5 == "GLOBAL" || $5 == "WEAK") && $7 != "UND" { print $6, $8 }' | LC_ALL=C sort -u
}

nm -D --defined-only --with-symbol-versions "$shared" |
	awk '$2 != "A" && $2 != "a" { print $3 }' | LC_ALL=C sort >"$tmp/exports"
[ -s "$tmp/exports" ] || echo "$shared" | fail "exports nothing"
grep -v '^uhmm_[a-z][a-z0-9_]*@@\{0,1\}UHMM_[0-9.]*$' "$tmp/exports" |
	fail "exported, but not a versioned uhmm_[a-z]*"

for library in "$static" "$checked"; do
	globals "$library" >"$tmp/globals"
	awk '$2 !~ /^uhmm_/ { print $2 }' "$tmp/globals" | fail "$library: global, but not uhmm_*"
	awk '$2 ~ /^uhmm__/ && $1 != "HIDDEN" { print $2 }' "$tmp/globals" |
		fail "$library: internal, but marked UHMM_API"
	awk '$2 ~ /^uhmm_[a-z]/ && $1 != "DEFAULT" { print $2 }' "$tmp/globals" |
		fail "$library: public name, but not marked UHMM_API"
	awk '$2 ~ /^uhmm_[a-z]/ { print $2 }' "$tmp/globals" >"$tmp/public.${library##*/}"
done

sed 's/@.*//' "$tmp/exports" >"$tmp/exported"
LC_ALL=C comm -13 "$tmp/exported" "$tmp/public.${static##*/}" | fail "in $static, missing in $shared"
LC_ALL=C comm -23 "$tmp/exported" "$tmp/public.${checked##*/}" | fail "missing in $checked"
cat "$tmp/report"
[ ! -s "$tmp/report" ]
