#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
# headers.sh CC: each public header compiles alone, in strict C11 and, where there
# is a C++ compiler, in C++; uhmm.h includes all of them but the opt-in ones.
set -eu
cc=$1
status=0
flags="-Iinclude -Wall -Wextra -Wpedantic -Wstrict-prototypes -Werror -fsyntax-only"

[ -e include/uhmm/uhmm.h ] || { echo "include/uhmm/uhmm.h is missing"; exit 1; }
for header in include/uhmm/*.h; do
	name=uhmm/${header##*/}
	# shellcheck disable=SC2086 # the flags are words
	printf '#include <%s>\ntypedef int not_empty;\n' "$name" |
		"$cc" -std=c11 $flags -xc - || { echo "$name: does not compile alone"; status=1; }
	if command -v c++ >/dev/null; then
		# shellcheck disable=SC2086
		printf '#include <%s>\n' "$name" |
			c++ -std=c++11 ${flags%-Wstrict-prototypes*} -Werror -fsyntax-only -xc++ - ||
			{ echo "$name: does not compile in C++"; status=1; }
	fi
	case $name in uhmm/uhmm.h | uhmm/linux*.h | uhmm/compat*.h) continue ;; esac
	grep -q "include <$name>" include/uhmm/*.h ||
		{ echo "$name: no public header includes it; uhmm.h should"; status=1; }
done
exit "$status"
