// SPDX-License-Identifier: LGPL-2.1-or-later
/* Which function a step is in: by the debug information of this program and what it has loaded. */
#include <dwarf.h>
#include <elfutils/libdwfl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "explore.h"
#include "tool.h"

static Dwfl *open_self(void)
{
	static const Dwfl_Callbacks callbacks = {
		.find_elf = dwfl_linux_proc_find_elf,
		.find_debuginfo = dwfl_standard_find_debuginfo,
	};
	static bool tried;
	static Dwfl *dwfl;

	if (tried)
		return dwfl;
	tried = true;
	dwfl = dwfl_begin(&callbacks);
	if (dwfl && (dwfl_linux_proc_report(dwfl, getpid()) || dwfl_report_end(dwfl, NULL, NULL))) {
		dwfl_end(dwfl);
		dwfl = NULL;
	}
	return dwfl;
}

/*
 * Code that others call to get at something: its callers are what is of interest. But those headers have steps
 * of the protocol that are in line.
 */
static bool is_accessor(const char *file)
{
	size_t len = strlen(file);

	if (strstr(file, "src/mm/fault_chain.h") || strstr(file, "src/mm/remap.h"))
		return false;
	return strstr(file, "sanitizer") || strstr(file, "src/sync/") ||
	       strstr(file, "src/core/") || strstr(file, "src/explore/") ||
	       (len > 2 && !strcmp(file + len - 2, ".h"));
}

struct spot {
	const char *function, *file;
	int line;
};

/* Where the call of an inlined function is. */
static void call_site(Dwarf_Die *cu, Dwarf_Die *die, struct spot *spot)
{
	Dwarf_Attribute attr;
	Dwarf_Word file, line;
	Dwarf_Files *files;

	spot->file = NULL;
	if (!dwarf_formudata(dwarf_attr(die, DW_AT_call_file, &attr), &file) &&
	    !dwarf_getsrcfiles(cu, &files, NULL))
		spot->file = dwarf_filesrc(files, file, NULL, NULL);
	if (!dwarf_formudata(dwarf_attr(die, DW_AT_call_line, &attr), &line))
		spot->line = (int)line;
}

/* The functions at an address, from the innermost inlined one outwards, until one that is no accessor. */
static bool search_scopes(Dwarf_Die *cu, Dwarf_Addr addr, struct spot *spot)
{
	Dwarf_Die *lexical = NULL, *scopes = NULL;
	bool found = false;
	int n = 0;

	/* The innermost scope, then what it was inlined into, not where it was written. */
	if (dwarf_getscopes(cu, addr, &lexical) > 0)
		n = dwarf_getscopes_die(&lexical[0], &scopes);
	free(lexical);
	for (int i = 0; i < n && !found; i++) {
		int tag = dwarf_tag(&scopes[i]);

		if (tag != DW_TAG_subprogram && tag != DW_TAG_inlined_subroutine)
			continue;
		spot->function = dwarf_diename(&scopes[i]);
		found = spot->function && spot->file && !is_accessor(spot->file);
		if (!found && tag == DW_TAG_inlined_subroutine)
			call_site(cu, &scopes[i], spot);
	}
	free(scopes);
	return found;
}

static bool search_frame(Dwfl *dwfl, const void *pc, struct spot *spot)
{
	/* A return address may be the first of what follows. */
	Dwarf_Addr addr = (Dwarf_Addr)(uintptr_t)pc - 1, bias = 0;
	Dwfl_Module *module = dwfl_addrmodule(dwfl, addr);
	Dwarf_Die *cu = module ? dwfl_module_addrdie(module, addr, &bias) : NULL;
	Dwfl_Line *line;

	if (!cu)
		return false;
	line = dwfl_module_getsrc(module, addr);
	spot->file = line ? dwfl_lineinfo(line, NULL, &spot->line, NULL, NULL, NULL) : NULL;
	return search_scopes(cu, addr - bias, spot);
}

static struct spot search(const struct uhmm_explore_step *step)
{
	struct spot spot = { 0 };
	Dwfl *dwfl = open_self();

	for (unsigned int i = 0; dwfl && i < step->depth; i++)
		if (search_frame(dwfl, step->stack[i], &spot))
			return spot;
	return (struct spot){ 0 };
}

/* Steps stand at the same places again and again. */
enum { CACHE_SIZE = 4096 };

static struct cached {
	unsigned int depth;
	void *stack[32];
	struct spot spot;
} cache[CACHE_SIZE];

static uint64_t hash(const struct uhmm_explore_step *step)
{
	uint64_t h = step->depth;

	for (unsigned int i = 0; i < step->depth; i++)
		h = (h ^ (uintptr_t)step->stack[i]) * 0x9e3779b97f4a7c15ULL;
	return h >> 32;
}

const char *explore_function(const struct uhmm_explore_step *step, const char **file, int *line)
{
	struct cached *c = &cache[hash(step) % CACHE_SIZE];
	size_t bytes = step->depth * sizeof(*step->stack);

	if (!step->depth || step->depth > 32)
		return NULL;
	if (c->depth != step->depth || memcmp(c->stack, step->stack, bytes) != 0) {
		c->depth = step->depth;
		memcpy(c->stack, step->stack, bytes);
		c->spot = search(step);
	}
	*file = c->spot.file;
	*line = c->spot.line;
	return c->spot.function;
}
