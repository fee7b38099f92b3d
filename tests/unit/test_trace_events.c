// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * test_trace_events.c - small texts of perf script, and the events that they must become. The
 * layouts are those that perf prints; the situations are the traps of real traces.
 */
#include "unit/trace_support.h"

#define B H(10, 11, 00500)
#define SYS "syscalls:sys_"
/* A reported VMA; the second form has an offset, file and protection of its own. */
#define MMAP2(range) A "PERF_RECORD_MMAP2 10/10: [" range " @ 0 " ANON
#define VMA(range, rest) A "PERF_RECORD_MMAP2 10/10: [" range " @ " rest "\n"
#define MPROTECT(start, len, prot)                                                                 \
	A SYS "enter_mprotect: start: " start ", len: " len ", prot: " prot "\n"
#define MADVISE(start, len, advice)                                                                \
	A SYS "enter_madvise: start: " start ", len_in: " len ", behavior: " advice "\n"
#define EXIT(call, ret) A SYS "exit_" call ": " ret "\n"

/* ---- layouts ---- */

START_TEST(test_layouts)
{
	static const char *const heads[] = {
		"            test 10/10 [001]     1.000000000: ",
		"test 10/10 [001] 1.000000: ",
		"  two words 10/10        1.000000: ",
		"  a:b [0] 3/4 10/10 [000]  1.000000000: ",
		"            test    10 [001]     1.000000: ",
		"            test    10     1.000000: ",
		"           :10 10/10     1.000000: ",
		"    x [000] 1.5: 10/10     1.000000: ",
		"        4.5: 5.: 10 [001] 1.000000: ",
		"      12/34 5.6: 10/10 [001] 1.000000: ",
		"        7 12 5.6: 10     1.000000: ",
	};
	static const char *const faults[] = {
		"                         page-faults:     7f0000001234     55a46a28a20e\n",
		"          1 page-faults:     7f0000001234 [unknown]     55a46a28a20e main\n",
		"          1 page-faults:u:     7f0000001234 foo(int, char)+0x4 (/bin/a b)"
		"     55a46a28a20e main+0x1 (/bin/a b)\n",
		"page-faults: 7f0000001234 55a46a28a20e\n",
		"faults:     7f0000001234     55a46a28a20e\r\n",
		"          1 page-faults:ppp:     7f0000001234 x+0x1 (/l)\n"
		"\t    55a46a28a20e main+0x1 (/bin/a)\n\t    55a46a28a30e up+0x1 (/bin/a)\n\n",
		"         12 minor-faults:     7f0000001234     55a46a28a20e\n",
	};
	size_t h = (size_t)_i % (sizeof(heads) / sizeof(heads[0]));
	size_t f = (size_t)_i / (sizeof(heads) / sizeof(heads[0]));
	char text[1024];

	snprintf(text, sizeof(text), "# comment\n\n%s%s", heads[h], faults[f]);
	expect(text, "MM_NEW 10/10 mm1 found 0\nTASK 10/10 mm1 found\n"
		     "FAULT 10/10 mm1 7f0000001234 ?u?\n");
}
END_TEST
#define NR_LAYOUTS (11 * 7)

/* The address of the fault comes from the tracepoint where samples print the instruction's alone. */
START_TEST(test_layout_default)
{
	expect("  test 10 [000] 1.000001: exceptions:page_fault_user: address=0x7f0000001234 "
	       "ip=0x55a46a28a20e error_code=0x6\n"
	       "  test 10 [000] 1.000002:          1 page-faults:      55a46a28a20e main+0x1 (/a)\n"
	       "  test 10 [000] 1.000003: exceptions:page_fault_kernel: address=0x7f0000002000 "
	       "ip=copy_to_user+0x1 [mod] error_code=0x2\n"
	       "  test 10 [000] 1.000004:          1 page-faults:  ffffffff81c3fa73 c+0x1 ([k])\n",
	       "MM_NEW 10/10 mm1 found 0\nTASK 10/10 mm1 found\n"
	       "FAULT 10/10 mm1 7f0000001234 wu-\nFAULT 10/10 mm1 7f0000002000 wk-\n");
}
END_TEST

/* The instruction's address is the call chain's, whatever the symbol of the data begins with. */
START_TEST(test_instruction_of_chain)
{
	static const char text[] =
		"test 10/10 [000] 1.000000: page-faults:     7f0000001234 environ+0x1 (/l)\n"
		"\t    55a46a28a20e main+0x1 (/bin/a)\n\n";
	struct uhmm_trace_event ev = { 0 };
	struct uhmm_trace_reader *r;
	char path[64];
	int fd = text_file(text, strlen(text), path);

	r = open_path(path, false);
	while (ev.kind != UHMM_TRACE_FAULT)
		ck_assert_int_eq(uhmm_trace_next(r, &ev), 1);
	ck_assert_uint_eq(ev.fault.ip, 0x55a46a28a20e);
	uhmm_trace_close(r);
	close(fd);
}
END_TEST

/* Neither process numbers nor forks: code at a known place means the same address space. */
START_TEST(test_layout_guess)
{
	expect("  test 10 1.000001: page-faults:     7f0000001000     7f1111001000\n"
	       "  thrd 11 1.000002: page-faults:     7f0000002000     7f1111002000\n"
	       "  test 12 1.000003: page-faults:     7f0000003000     7f2222001000\n"
	       "  thrd 11 1.000004: page-faults:     7f0000004000 ffffffff81c3fa73\n"
	       "  ls   12 1.000005: page-faults:     7f0000005000     7f3333001000\n",
	       "MM_NEW 10/10 mm1 found 0\nTASK 10/10 mm1 found\nFAULT 10/10 mm1 7f0000001000 ?u?\n"
	       "TASK 10/11 mm1 found\nFAULT 10/11 mm1 7f0000002000 ?u?\n"
	       "MM_NEW 12/12 mm2 found 0\nTASK 12/12 mm2 found\nFAULT 12/12 mm2 7f0000003000 ?u?\n"
	       "FAULT 10/11 mm1 7f0000004000 ?k?\n"
	       "MM_NEW 12/12 mm3 exec 0\nTASK 12/12 mm3 exec\nMM_DEL 12/12 mm2\n"
	       "FAULT 12/12 mm3 7f0000005000 ?u?\n");
}
END_TEST

/* `-F +addr` shows the address of a tracepoint's sample as well. */
START_TEST(test_layout_addr)
{
	expect("  test 10 [000] 1.000001: exceptions:page_fault_user: address=0x7f0000001234 "
	       "ip=0x55a46a28a20e error_code=0x6               0\n"
	       "  test 10 1.000002:          1                page-faults:     7f0000001234 [unknown] "
	       "(//anon)     55a46a28a20e main+0x1 (/a)\n"
	       "  test 10 [000] 1.000003: " SYS
	       "enter_munmap: addr: 0x7f0000000000, len: 0x00004000               0\n"
	       "  test 10 [000] 1.000004: " SYS "exit_munmap: 0x0               0\n",
	       "MM_NEW 10/10 mm1 found 0\nTASK 10/10 mm1 found\n"
	       "FAULT 10/10 mm1 7f0000001234 wu-\n"
	       "UNMAP 10/10 mm1 7f0000000000-7f0000004000\n");
}
END_TEST

/* Records that mean nothing here: one without a head, and one of several lines. */
START_TEST(test_other_records)
{
	expect(A EXEC "PERF_RECORD_FINISHED_ROUND\n" A
		      "PERF_RECORD_NAMESPACES 10/10 - nr_namespaces: 7\n"
		      "\t\t[0/net: 4/0xeffffff9, 1/uts: 4/0xeffffffe, \n"
		      "\t\t 5/mnt: 4/0xeffffff8, 6/cgroup: 4/0xeffffffb]\n" A
		      "PERF_RECORD_SWITCH OUT preempt\n" A
		      "page-faults:     7f0000001000     55a46a28a20e\n",
	       STARTED "FAULT 10/10 mm1 7f0000001000 ?u?\n");
}
END_TEST

START_TEST(test_preamble)
{
	expect("  swapper     0/0     [000]     0.000000000: PERF_RECORD_MMAP -1/0: "
	       "[0xffffffff81000000(0x120bb08) @ 0xffffffff81000000]: x [kernel.kallsyms]_text\n"
	       "  perf-exec     0/0     [000]     0.000000000: PERF_RECORD_COMM: perf-exec:10/10\n" A
		       EXEC A "PERF_RECORD_MMAP2 10/10: [0x7ffc7b068000(0x21000) @ 0x7ffffffde000 "
	       "00:00 0 0]: rw-p [stack]\n" A "PERF_RECORD_KSYMBOL addr 0 len 0\n" A
	       "cycles:u:  55a46a28a20e\n" A "sched:sched_switch: prev_comm=x\n" A SYS
	       "enter_futex: uaddr: 0x0\n",
	       STARTED "MAP 10/10 mm1 7ffc7b068000-7ffc7b089000 prot3 flags1106 obj0@0\n");
}
END_TEST

/* Attached: mappings at time 0, whose lines are headed by the recorder. */
START_TEST(test_snapshot)
{
	expect("   t     0/0         0.000000: PERF_RECORD_COMM: t:10/10\n"
	       "   t     0/0         0.000000: PERF_RECORD_FORK(10:11):(10:10)\n"
	       "   t     0/0         0.000000: PERF_RECORD_MMAP2 10/10: [0x55d2cb3d0000(0x21000) @ 0 "
	       "00:00 0 0]: rw-p [heap]\n"
	       "   t     0/0         0.000000: PERF_RECORD_MMAP2 10/10: [0xffffffffff600000(0x1000) "
	       "@ 0 00:00 0 0]: --xp [vsyscall]\n" A SYS
	       "enter_brk: brk: 0x55d2cb3e0000\n" EXIT("brk", "0x55d2cb3e0000") B
	       "page-faults:     7f0000001000     55a46a28a20e\n",
	       "MM_NEW 10/10 mm1 found 0\nTASK 10/10 mm1 found\n"
	       "MAP 10/10 mm1 55d2cb3d0000-55d2cb3f1000 prot3 flags80a obj0@0\n"
	       "UNMAP 10/10 mm1 55d2cb3e0000-55d2cb3f1000\n"
	       "TASK 10/11 mm1 found\nFAULT 10/11 mm1 7f0000001000 ?u?\n");
}
END_TEST

/* ---- mappings ---- */

START_TEST(test_map)
{
	/* The report is of the merged VMA; the call tells which part is new. */
	expect(A EXEC A SYS "enter_mmap: addr: 0x00000000, len: 0x0000f001, prot: 0x00000003, "
			    "flags: 0x00008022, fd: 0xffffffff, off: 0x00000000\n" MMAP2(
				    "0x7f0000000000(0x13000)") EXIT("mmap", "0x7f0000000000"),
	       STARTED "MAP 10/10 mm1 7f0000000000-7f0000010000 prot3 flags22 obj0@0\n");
	/* Without system calls the whole VMA is all there is to know. */
	expect(A EXEC MMAP2("0x7f0000000000(0x13000)"),
	       STARTED "MAP 10/10 mm1 7f0000000000-7f0000013000 prot3 flags1002 obj0@0\n");
	/* Without a report the arguments have to do. */
	expect(A EXEC A SYS "enter_mmap: addr: 0x00000000, len: 0x00001000, prot: 0x00000001, "
			    "flags: 0x00000001, fd: 0x00000003, off: 0x00002000\n" EXIT(
				    "mmap", "0x7f0000000000"),
	       STARTED "OBJ 0/0 mm0 1 kind0 0:0 0 -\n"
		       "MAP 10/10 mm1 7f0000000000-7f0000001000 prot1 flags2001 obj1@2\n");
	expect(A EXEC A SYS "enter_mmap: addr: 0x00000000, len: 0x00001000, prot: 0x00000001, "
			    "flags: 0x00000001, fd: 0x00000003, off: 0x00002000\n" EXIT(
				    "mmap", "0xfffffffffffffff4"),
	       STARTED);
}
END_TEST

START_TEST(test_objects)
{
	/* The same file is one object; names hold blanks; offsets follow the part. */
	expect(A EXEC VMA("0x7f0000000000(0x2000)", "0x5000 fe:01 77 88]: r-xp /a b") VMA(
		       "0x7f0000010000(0x1000)", "0 fe:01 77 88]: r--s /a b")
		       VMA("0x7f0000020000(0x1000)", "0 00:01 9 7]: rw-s /dev/zero (deleted)") VMA(
			       "0x7f0000030000(0x1000)", "0 00:01 9 8]: rw-s /memfd:x (deleted)")
			       VMA("0x7f0000040000(0x1000)", "0 <0aff>]: r--p /a b")
				       VMA("0x7f0000050000(0x1000)", "0 00:00 0 0]: r-xp [vdso]"),
	       STARTED "OBJ 0/0 mm0 1 kind1 fe:1 77 /a b\n"
		       "MAP 10/10 mm1 7f0000000000-7f0000002000 prot5 flags1000 obj1@5\n"
		       "MAP 10/10 mm1 7f0000010000-7f0000011000 prot1 flags1001 obj1@0\n"
		       "OBJ 0/0 mm0 2 kind2 0:1 9 /dev/zero (deleted)\n"
		       "MAP 10/10 mm1 7f0000020000-7f0000021000 prot3 flags1003 obj2@0\n"
		       "OBJ 0/0 mm0 3 kind3 0:1 9 /memfd:x (deleted)\n"
		       "MAP 10/10 mm1 7f0000030000-7f0000031000 prot3 flags1001 obj3@0\n"
		       "OBJ 0/0 mm0 4 kind1 0:0 0 /a b\n"
		       "MAP 10/10 mm1 7f0000040000-7f0000041000 prot1 flags1000 obj4@0\n"
		       "MAP 10/10 mm1 7f0000050000-7f0000051000 prot5 flags1402 obj0@0\n");
}
END_TEST

START_TEST(test_unmap)
{
	expect(A EXEC A SYS
	       "enter_munmap: addr: 0x7f0000000000, len: 0x00001001\n" EXIT("munmap", "0x0") A SYS
	       "enter_munmap: addr: 0x7f0000000001, len: 0x00001000\n" EXIT("munmap",
									    "0xffffffffffffffea"),
	       STARTED "UNMAP 10/10 mm1 7f0000000000-7f0000002000\n");
	/* System V: the length is the mapping's. */
	expect(A EXEC A SYS
	       "enter_shmat: shmid: 0x00000004, shmaddr: 0x00000000, shmflg: 0x00000000\n" VMA(
		       "0x7f0000000000(0x3000)", "0 00:01 4 5]: rw-s /SYSV1 (deleted)")
		       EXIT("shmat", "0x7f0000000000") A SYS
	       "enter_shmdt: shmaddr: 0x7f0000000000\n" EXIT("shmdt", "0x0"),
	       STARTED "OBJ 0/0 mm0 1 kind2 0:1 4 /SYSV1 (deleted)\n"
		       "MAP 10/10 mm1 7f0000000000-7f0000003000 prot3 flags1 obj1@0\n"
		       "UNMAP 10/10 mm1 7f0000000000-7f0000003000\n");
}
END_TEST

START_TEST(test_brk)
{
	expect(A EXEC A SYS "enter_brk: brk: 0x00000000\n" EXIT("brk", "0x555500000000") A SYS
	       "enter_brk: brk: 0x555500021800\n" MMAP2("0x555500000000(0x22000)")
		       EXIT("brk", "0x555500021800")
	       /* inside the last page, then refused, then back */
	       A SYS "enter_brk: brk: 0x555500021900\n" EXIT("brk", "0x555500021900") A SYS
	       "enter_brk: brk: 0x999500021900\n" EXIT("brk", "0x555500021900") A SYS
	       "enter_brk: brk: 0x555500001000\n" EXIT("brk", "0x555500001000"),
	       STARTED "MAP 10/10 mm1 555500000000-555500022000 prot3 flagsa obj0@0\n"
		       "UNMAP 10/10 mm1 555500001000-555500022000\n");
}
END_TEST

START_TEST(test_protect)
{
	/* Reported: once, as the kernel did it. */
	expect(A EXEC MPROTECT("0x7f0000001000", "0x00001000", "0x00000001")
		       VMA("0x7f0000000000(0x2000)", "0 00:00 0 0]: r--p //anon")
			       EXIT("mprotect", "0x0"),
	       STARTED "PROT 10/10 mm1 7f0000001000-7f0000002000 prot1\n");
	/* Not reported: nothing changed, or reports are not recorded. */
	expect(A EXEC MPROTECT("0x7f0000001000", "0x00001000", "0x00000000")
		       EXIT("mprotect", "0x0"),
	       STARTED "PROT 10/10 mm1 7f0000001000-7f0000002000 prot0\n");
	/* It came as far as a hole. */
	expect(A EXEC MPROTECT("0x7f0000000000", "0x00009000", "0x00000001")
		       VMA("0x7f0000000000(0x2000)", "0 00:00 0 0]: r--p //anon")
			       EXIT("mprotect", "0xfffffffffffffff4")
				       MPROTECT("0x7f0000000000", "0x00009000", "0x01000000")
					       EXIT("mprotect", "0xffffffffffffffea"),
	       STARTED "PROT 10/10 mm1 7f0000000000-7f0000002000 prot1\n");
}
END_TEST

#define MREMAP(old, new, flags, to, ret)                                                           \
	A SYS "enter_mremap: addr: 0x7f0000000000, old_len: " old                                  \
	      ", new_len: " new ", flags: " flags ", new_addr: " to "\n" EXIT("mremap", ret)

START_TEST(test_move)
{
	expect(A EXEC MREMAP("0x00002000", "0x00004000", "0x00000001", "0x00000000",
			     "0x7f0000100000") MREMAP("0x00002000", "0x00004000", "0x00000001",
						      "0x00000000", "0x7f0000000000")
		       MREMAP("0x00004000", "0x00001000", "0x00000000", "0x00000000",
			      "0x7f0000000000") MREMAP("0x00002000", "0x00002000", "0x00000003",
						       "0x7f0000200000", "0x7f0000200000")
			       MREMAP("0x00002000", "0x00002000", "0x00000005", "0x00000000",
				      "0x7f0000300000")
				       MREMAP("0x00000000", "0x00002000", "0x00000001",
					      "0x00000000", "0x7f0000400000")
					       MREMAP("0x00002000", "0x00002000", "0x00000001",
						      "0x00000000", "0xfffffffffffffff2"),
	       STARTED
	       "MOVE 10/10 mm1 7f0000000000-7f0000002000 to 7f0000100000-7f0000104000 flags0\n"
	       "MOVE 10/10 mm1 7f0000000000-7f0000002000 to 7f0000000000-7f0000004000 flags0\n"
	       "UNMAP 10/10 mm1 7f0000001000-7f0000004000\n"
	       "MOVE 10/10 mm1 7f0000000000-7f0000002000 to 7f0000200000-7f0000202000 flags4\n"
	       "MOVE 10/10 mm1 7f0000000000-7f0000002000 to 7f0000300000-7f0000302000 flags1\n"
	       "MOVE 10/10 mm1 7f0000000000-7f0000002000 to 7f0000400000-7f0000402000 flags2\n");
}
END_TEST

START_TEST(test_advise)
{
	expect(A EXEC MADVISE("0x7f0000000000", "0x00001001", "0x0000000a") EXIT("madvise", "0x0")
		       MADVISE("0x7f0000000000", "0x00001000", "0x00000063")
			       EXIT("madvise", "0xffffffffffffffea")
				       MADVISE("0x7f0000000000", "0x00001000", "0x00000004")
					       EXIT("madvise", "0xfffffffffffffff4") A SYS
	       "enter_mlock2: start: 0x7f0000000000, len: 0x00001000, flags: 0x00000001\n" EXIT(
		       "mlock2", "0x0") A SYS "enter_munlockall: \n" EXIT("munlockall", "0x0") A SYS
	       "enter_process_madvise: pidfd: 0x00000005, vec: 0x7ffe325ec7b0, vlen: 0x00000001, "
	       "behavior: 0x00000015, flags: 0x00000000\n" EXIT("process_madvise", "0x1000"),
	       STARTED "ADVISE 10/10 mm1 7f0000000000-7f0000002000 advice10 err0\n"
		       "ADVISE 10/10 mm1 7f0000000000-7f0000001000 advice4 err-12\n"
		       "ADVISE 10/10 mm1 7f0000000000-7f0000001000 advice1001 err0\n"
		       "ADVISE 10/10 mm1 0-fffffffffffff000 advice1004 err0\n");
}
END_TEST

START_TEST(test_truncate)
{
	expect(A EXEC A SYS
	       "enter_ftruncate: fd: 0x00000003, length: 0x00001000\n" EXIT("ftruncate", "0x0")
		       A SYS
	       "enter_mmap: addr: 0x00000000, len: 0x00004000, prot: 0x00000003, flags: "
	       "0x00000001, fd: 0x00000003, off: 0x00000000\n" VMA("0x7f0000000000(0x4000)",
								   "0 fe:01 77 88]: rw-s /db")
		       EXIT("mmap", "0x7f0000000000") A SYS
	       "enter_ftruncate: fd: 0x00000003, length: 0x00001001\n" EXIT("ftruncate", "0x0")
		       A SYS
	       "enter_fallocate: fd: 0x00000003, mode: 0x00000003, offset: 0x00000800, len: "
	       "0x00002000\n" EXIT("fallocate", "0x0"),
	       STARTED
	       "OBJ 0/0 mm0 1 kind1 fe:1 77 /db\n"
	       "MAP 10/10 mm1 7f0000000000-7f0000004000 prot3 flags1 obj1@0\n"
	       "TRUNC 10/10 mm1 obj1 2000-ffffffffffffffff\nTRUNC 10/10 mm1 obj1 1000-2000\n");
}
END_TEST

/* ---- tasks ---- */

#define FORK(child, pid) A "PERF_RECORD_FORK(" pid ":" child "):(10:10)\n"
#define NEWTASK(child, flags)                                                                      \
	A "task:task_newtask: pid=" child " comm=a b clone_flags=" flags " oom_score_adj=0\n"
#define FAULT(pid, tid) H(pid, tid, 00900) "page-faults:     7f0000001000     55a46a28a20e\n"

START_TEST(test_thread)
{
	expect(A EXEC FORK("11", "10") NEWTASK("11", "3d0f00") FAULT(10, 11)
		       H(10, 11, 00900) "sched:sched_process_exit: comm=t pid=11 prio=120 group_dead=false\n" FAULT(
			       10, 11)
			       H(10, 11, 00900) "PERF_RECORD_EXIT(10:11):(10:10)\n" FAULT(10, 10)
				       H(10, 10, 00900) "PERF_RECORD_EXIT(10:10):(9:9)\n",
	       STARTED "TASK 10/11 mm1 thread\nFAULT 10/11 mm1 7f0000001000 ?u?\n"
		       "FAULT 10/11 mm1 7f0000001000 ?u?\nTASK_EXIT 10/11 mm1\n"
		       "FAULT 10/10 mm1 7f0000001000 ?u?\nTASK_EXIT 10/10 mm1\nMM_DEL 10/10 mm1\n");
}
END_TEST

START_TEST(test_fork)
{
	static const char forked[] = STARTED "MM_NEW 12/12 mm2 fork 1\nTASK 12/12 mm2 fork\n"
					     "FAULT 12/12 mm2 7f0000001000 ?u?\n";

	expect(A EXEC FORK("12", "12") NEWTASK("12", "1200000") FAULT(12, 12), forked);
	expect(A EXEC FORK("12", "12") FAULT(12, 12), forked);	       /* records alone */
	expect(A EXEC NEWTASK("12", "1200000") FAULT(12, 12), forked); /* tracepoints alone */
	expect(A EXEC FORK("12", "12"), STARTED "MM_NEW 12/12 mm2 fork 1\nTASK 12/12 mm2 fork\n");
}
END_TEST

/* The child runs in its parent's address space, until it executes a program. */
START_TEST(test_vfork)
{
	expect(A EXEC FORK("12", "12") NEWTASK("12", "4100") FAULT(12, 12) H(12, 12, 00900) SYS
	       "enter_execve: filename: 0x2c7d5f20, argv: 0x0, envp: 0x0\n" H(12, 12, 00900) SYS
	       "exit_execve: 0xfffffffffffffffe\n" FAULT(12, 12) H(
		       12, 12, 00900) "PERF_RECORD_COMM exec: c c 1:12/12\n" FAULT(12, 12)
		       H(12, 12,
			 00900) "sched:sched_process_exec: filename=./t1 pid=12 old_pid=12\n" FAULT(10,
												    10)
			       H(12, 12, 00900) "PERF_RECORD_EXIT(12:12):(10:10)\n",
	       STARTED
	       "TASK 12/12 mm1 vfork\nFAULT 12/12 mm1 7f0000001000 ?u?\n"
	       "FAULT 12/12 mm1 7f0000001000 ?u?\n"
	       "MM_NEW 12/12 mm2 exec 0\nTASK 12/12 mm2 exec\nFAULT 12/12 mm2 7f0000001000 ?u?\n"
	       "FAULT 10/10 mm1 7f0000001000 ?u?\nTASK_EXIT 12/12 mm2\nMM_DEL 12/12 mm2\n");
}
END_TEST

/* Executing ends the other threads, and the old address space. */
START_TEST(test_exec)
{
	expect(A EXEC FORK("11", "10") A EXEC FAULT(10, 10),
	       STARTED "TASK 10/11 mm1 thread\nTASK_EXIT 10/11 mm1\n"
		       "MM_NEW 10/10 mm2 exec 0\nTASK 10/10 mm2 exec\nMM_DEL 10/10 mm1\n"
		       "FAULT 10/10 mm2 7f0000001000 ?u?\n");
}
END_TEST

/* A parent that goes first takes its own address space along, not the borrowed one. */
START_TEST(test_vfork_outlives)
{
	expect(A EXEC FORK("12", "12") NEWTASK("12", "f00") A
	       "PERF_RECORD_EXIT(10:10):(9:9)\n" FAULT(12, 12)
		       H(12, 12, 00900) "PERF_RECORD_EXIT(12:12):(10:10)\n",
	       STARTED "TASK 12/12 mm1 vfork\nTASK_EXIT 10/10 mm1\n"
		       "FAULT 12/12 mm1 7f0000001000 ?u?\nTASK_EXIT 12/12 mm1\nMM_DEL 12/12 mm1\n");
}
END_TEST

/* A number that is used again: the end of its first owner was not recorded. */
START_TEST(test_reuse)
{
	expect(A EXEC FORK("12", "12") NEWTASK("12", "1200000") FORK("12", "12")
		       NEWTASK("12", "1200000"),
	       STARTED "MM_NEW 12/12 mm2 fork 1\nTASK 12/12 mm2 fork\n"
		       "TASK_EXIT 12/12 mm2\nMM_DEL 12/12 mm2\n"
		       "MM_NEW 12/12 mm3 fork 1\nTASK 12/12 mm3 fork\n");
}
END_TEST

/* ---- faults ---- */

#define TP(who, addr, code)                                                                        \
	"exceptions:page_fault_" who ": address=" addr " ip=0x55a46a28a20e error_code=" code "\n"
#define SAMPLE(addr) "page-faults:     " addr "     55a46a28a20e\n"

START_TEST(test_pairs)
{
	/* Two tasks interleave; an atomic copy has no sample and no effect. */
	expect(A EXEC A TP("user", "0x7f0000001000", "0x14") B TP("user", "0x7f0000002000", "0x7")
		       B SAMPLE("7f0000002000") A SAMPLE("7f0000001000") A
	       "exceptions:page_fault_kernel: address=0x7f0000003000 ip=copy_folio error_code=0x0\n" A
		       TP("kernel", "0x7f0000003000", "0x2") A SAMPLE("7f0000003000"),
	       STARTED "TASK 10/11 mm1 found\nFAULT 10/11 mm1 7f0000002000 wu+\n"
		       "FAULT 10/10 mm1 7f0000001000 xu-\nFAULT 10/10 mm1 7f0000003000 wk-\n");
	/* A lost sample, a lost tracepoint, a sample of an instruction's own address. */
	expect(A EXEC A TP("user", "0x7f0000001000", "0x6") A TP("user", "0x7f0000002000", "0x6")
		       A SAMPLE("7f0000002000") A SAMPLE("7f0000003000") A SAMPLE("55a46a28a20e"),
	       STARTED "FAULT 10/10 mm1 7f0000001000 wu-\nFAULT 10/10 mm1 7f0000002000 wu-\n"
		       "FAULT 10/10 mm1 7f0000003000 ?u?\nFAULT 10/10 mm1 55a46a28a20e xu?\n");
	/* No samples recorded at all. */
	expect(A EXEC A TP("user", "0x7f0000001000", "0x4") A TP("kernel", "0x7f0000002000", "0x2"),
	       STARTED "FAULT 10/10 mm1 7f0000001000 ru-\nFAULT 10/10 mm1 7f0000002000 wk-\n");
}
END_TEST

START_TEST(test_major)
{
	expect(A EXEC A TP("user", "0x7f0000001000", "0x4") A SAMPLE("7f0000001000")
		       B SAMPLE("7f0000002000") A
	       "major-faults:     7f0000001000     55a46a28a20e\n" A
	       "major-faults:     7f0000009000     55a46a28a20e\n",
	       STARTED
	       "FAULT 10/10 mm1 7f0000001000 ru-\n"
	       "TASK 10/11 mm1 found\nFAULT 10/11 mm1 7f0000002000 ?u?\n"
	       "FAULT_MAJOR 10/10 mm1 7f0000001000 ???\nFAULT 10/10 mm1 7f0000009000 ?u?\n");
}
END_TEST

/* A sample that stands for several faults: which the others were is not told. */
START_TEST(test_period)
{
	static const char text[] = A "  1 page-faults:     7f0000001000     55a46a28a20e\n" A
				     "  4 page-faults:     7f0000002000     55a46a28a20e\n" A
				     "  4 minor-faults:     7f0000002000     55a46a28a20e\n" A
				     "page-faults:     7f0000003000     55a46a28a20e\n";
	char path[64];
	int fd = text_file(text, sizeof(text) - 1, path);
	struct uhmm_trace_reader *r = open_path(path, false);

	ck_assert_int_eq(drain(r, NULL), 0);
	ck_assert_uint_eq(uhmm_trace_stats(r)->events[UHMM_TRACE_FAULT], 3);
	ck_assert_uint_eq(uhmm_trace_stats(r)->unsampled, 3);
	uhmm_trace_close(r);
	close(fd);
}
END_TEST

START_TEST(test_lost)
{
	expect(A EXEC A "PERF_RECORD_LOST lost 42\n", STARTED "LOST 0/0 mm0 42\n");
}
END_TEST

/* ---- calls of several threads ---- */

/* Thread 10's munmap() returns after thread 11 got the same place from mmap(). */
START_TEST(test_unmap_race)
{
	expect(A EXEC A SYS
	       "enter_munmap: addr: 0x7f0000000000, len: 0x00004000\n" B SYS
	       "enter_mmap: addr: 0x00000000, len: 0x00001000, prot: 0x00000003, flags: "
	       "0x00000022, fd: 0xffffffff, off: 0x00000000\n" B
	       "PERF_RECORD_MMAP2 10/11: [0x7f0000000000(0x1000) @ 0 " ANON B SYS
	       "exit_mmap: 0x7f0000000000\n" EXIT("munmap", "0x0"),
	       STARTED "TASK 10/11 mm1 found\nUNMAP 10/10 mm1 7f0000000000-7f0000004000\n"
		       "MAP 10/11 mm1 7f0000000000-7f0000001000 prot3 flags2 obj0@0\n");
}
END_TEST

/* Thread 11 faults on what thread 10's madvise() dropped, before that returns. */
START_TEST(test_dontneed_race)
{
	expect(A EXEC A SYS "enter_madvise: start: 0x7f0000000000, len_in: 0x00004000, behavior: "
			    "0x00000004\n" B SAMPLE("7f0000001000") B SAMPLE("7f0000001000")
				    EXIT("madvise", "0x0"),
	       STARTED "TASK 10/11 mm1 found\n"
		       "ADVISE 10/10 mm1 7f0000000000-7f0000004000 advice4 err0\n"
		       "FAULT 10/11 mm1 7f0000001000 ?u?\nFAULT 10/11 mm1 7f0000001000 ?u?\n");
}
END_TEST

/* A call in flight when its task, or the recording, ends. */
START_TEST(test_calls_cut)
{
	expect(A EXEC A SYS "enter_munmap: addr: 0x7f0000000000, len: 0x00004000\n" A
			    "PERF_RECORD_EXIT(10:10):(9:9)\n",
	       STARTED "TASK_EXIT 10/10 mm1\nMM_DEL 10/10 mm1\n");
	expect(A EXEC A SYS "enter_munmap: addr: 0x7f0000000000, len: 0x00004000\n" A SYS
			    "enter_brk: brk: 0x00000000\n" EXIT("munmap", "0x0"),
	       STARTED);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("trace_events");
	TCase *tc = tcase_create("trace_events");
	SRunner *runner;
	int failed;

	tcase_add_loop_test(tc, test_layouts, 0, NR_LAYOUTS);
	tcase_add_test(tc, test_layout_default);
	tcase_add_test(tc, test_instruction_of_chain);
	tcase_add_test(tc, test_layout_guess);
	tcase_add_test(tc, test_layout_addr);
	tcase_add_test(tc, test_other_records);
	tcase_add_test(tc, test_preamble);
	tcase_add_test(tc, test_snapshot);
	tcase_add_test(tc, test_map);
	tcase_add_test(tc, test_objects);
	tcase_add_test(tc, test_unmap);
	tcase_add_test(tc, test_brk);
	tcase_add_test(tc, test_protect);
	tcase_add_test(tc, test_move);
	tcase_add_test(tc, test_advise);
	tcase_add_test(tc, test_truncate);
	tcase_add_test(tc, test_thread);
	tcase_add_test(tc, test_fork);
	tcase_add_test(tc, test_vfork);
	tcase_add_test(tc, test_exec);
	tcase_add_test(tc, test_vfork_outlives);
	tcase_add_test(tc, test_reuse);
	tcase_add_test(tc, test_pairs);
	tcase_add_test(tc, test_major);
	tcase_add_test(tc, test_period);
	tcase_add_test(tc, test_lost);
	tcase_add_test(tc, test_unmap_race);
	tcase_add_test(tc, test_dontneed_race);
	tcase_add_test(tc, test_calls_cut);
	suite_add_tcase(suite, tc);
	runner = srunner_create(suite);
	srunner_run_all(runner, CK_NORMAL);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
