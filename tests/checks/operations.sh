#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
# Every operation of the mirror and of mm is one that the scenarios all-operations choose from.
#   operations.sh      in the top folder; prints those that are missing, status 1 if there is one
set -eu

# Asking for a number or a name; what a file is before it is mapped; comparing, which is for two machines;
# unplugging a device, for which nobody may have it open; the lock that all take that change the address space.
never='uhmm_device_destroy uhmm_emit_fn uhmm_file_get uhmm_file_id uhmm_file_kind uhmm_file_nr_cached
	uhmm_file_nr_dirty uhmm_file_nr_swapped uhmm_file_put uhmm_file_set_foreign uhmm_file_size
	uhmm_machine_compare uhmm_machine_verify uhmm_mirror_mm uhmm_mm_id uhmm_mm_machine uhmm_mm_nr_vmas
	uhmm_mmap_read_trylock uhmm_mmap_write_lock uhmm_mmap_write_unlock uhmm_mmget uhmm_range_fault
	uhmm_range_fault_unlocked_timeout uhmm_strategy_name uhmm_uffd_fn uhmm_unlock_put_page
	uhmm_vma_lookup uhmm_vma_mm uhmm_zone_device_page_init UHMM_MIRROR_FLAG_ UHMM_MIRROR_H MAP_HUGETLB'

names() { # what mm.h and its like declare, or name
	for header in mm mirror special exclusive pin file; do
		grep -oE '\buhmm_[a-z0-9_]+\(|\bUHMM_(MIRROR|FOLL|UFFD)_[A-Z_]+|\b(MADV|MREMAP|MAP|MS)_[A-Z_]+' \
			"include/uhmm/$header.h"
	done | sed 's/($//; s/_at$//' | sort -u
}

missing=''
for name in $(names); do
	case " $(echo "$never" | tr '\n\t' '  ') " in *" $name "*) continue ;; esac
	grep -qw "$name" tools/scenarios/operations.c tools/scenarios/operations_mm.c \
		tools/scenarios/all_operations.c || missing="$missing $name"
done
[ -z "$missing" ] && exit
echo "not in tools/scenarios/operations*.c:$missing" >&2
exit 1
