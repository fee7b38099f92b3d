// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * Contents of frames.
 *
 * A CPU and a device may touch one page at the same time, as on hardware; so contents are moved by
 * relaxed atomic words, which neither tear a word nor order anything.
 */
#include <string.h>

#include "mm/frame.h"

enum { WORDS = UHMM_PAGE_SIZE / sizeof(uint64_t) };

static _Atomic uint64_t *frame_tag(struct uhmm_machine *m, uhmm_pfn_t pfn)
{
	return &m->tags[pfn_to_index(m, pfn)];
}

static uint64_t *frame_words(struct uhmm_machine *m, uhmm_pfn_t pfn)
{
	return (uint64_t *)(m->bytes + (pfn_to_index(m, pfn) << UHMM_PAGE_SHIFT));
}

void uhmm__copy_page_bytes(struct uhmm_machine *m, uhmm_pfn_t dst, uhmm_pfn_t src)
{
	uint64_t *to = frame_words(m, dst), *from = frame_words(m, src);

	for (int i = 0; i < WORDS; i++) {
		uint64_t w = __atomic_load_n(&from[i], __ATOMIC_RELAXED);

		__atomic_store_n(&to[i], w, __ATOMIC_RELAXED);
	}
}

void uhmm__copy_pages(struct uhmm_machine *m, uhmm_pfn_t dst, uhmm_pfn_t src, uint64_t n)
{
	for (uint64_t i = 0; i < n; i++)
		uhmm__copy_page(m, dst + i, src + i);
}

void uhmm__clear_page_bytes(struct uhmm_machine *m, uhmm_pfn_t pfn)
{
	uint64_t *words = frame_words(m, pfn);

	for (int i = 0; i < WORDS; i++)
		__atomic_store_n(&words[i], 0, __ATOMIC_RELAXED);
}

/*
 * The tag's 8 bytes stand for the whole page, repeated. Of a range longer than a tag the last
 * 8 bytes win on writing.
 */
static void tag_read(struct uhmm_machine *m, uhmm_pfn_t pfn, size_t off, uint8_t *buf, size_t len)
{
	uint64_t tag = load_relaxed(frame_tag(m, pfn));

	for (size_t i = 0; i < len; i++)
		buf[i] = tag >> ((off + i) % 8 * 8);
}

static void tag_write(struct uhmm_machine *m, uhmm_pfn_t pfn, size_t off, const uint8_t *buf,
		      size_t len)
{
	uint64_t tag = load_relaxed(frame_tag(m, pfn));

	for (size_t i = 0; i < len; i++) {
		unsigned int shift = (off + i) % 8 * 8;

		tag = (tag & ~(0xffUL << shift)) | (uint64_t)buf[i] << shift;
	}
	store_relaxed(frame_tag(m, pfn), tag);
}

void uhmm__read_frame_slow(struct uhmm_machine *m, uhmm_pfn_t pfn, size_t off, void *buf,
			   size_t len)
{
	uint64_t *words;
	uint8_t *out = buf;

	if (m->tags) {
		tag_read(m, pfn, off, buf, len);
		return;
	}
	words = frame_words(m, pfn);
	while (len) {
		uint64_t w = __atomic_load_n(&words[off / 8], __ATOMIC_RELAXED);
		size_t n = MIN(len, 8 - off % 8);

		if (likely(n == 8)) /* most of a page: without a call */
			memcpy(out, &w, 8);
		else
			memcpy(out, (uint8_t *)&w + off % 8, n);
		out += n;
		off += n;
		len -= n;
	}
}

void uhmm__write_frame_slow(struct uhmm_machine *m, uhmm_pfn_t pfn, size_t off, const void *buf,
			    size_t len)
{
	const uint8_t *in = buf;
	uint64_t *words;

	if (m->tags) {
		tag_write(m, pfn, off, buf, len);
		return;
	}
	words = frame_words(m, pfn);
	while (len) {
		uint64_t *p = &words[off / 8];
		uint64_t w = __atomic_load_n(p, __ATOMIC_RELAXED);
		size_t n = MIN(len, 8 - off % 8);

		if (likely(n == 8))
			memcpy(&w, in, 8);
		else
			memcpy((uint8_t *)&w + off % 8, in, n);
		__atomic_store_n(p, w, __ATOMIC_RELAXED);
		in += n;
		off += n;
		len -= n;
	}
}

bool uhmm__same_content(struct uhmm_machine *ma, uhmm_pfn_t a, struct uhmm_machine *mb,
			uhmm_pfn_t b)
{
	if (ma->tags)
		return load_relaxed(frame_tag(ma, a)) == load_relaxed(frame_tag(mb, b));
	return !memcmp(frame_words(ma, a), frame_words(mb, b), UHMM_PAGE_SIZE);
}
