/* SPDX-License-Identifier: BSD-3-Clause */
// struct _fpx_sw_bytes of arch/x86/include/uapi/asm/sigcontext.h; check_xstate_in_sigframe() and
// restore_fpregs_from_user() of arch/x86/kernel/fpu/signal.c.
#include "x86_fp.h"

#include <string.h>

enum {
	SW_BYTES = 464, // in the FXSAVE part; a regset has XCR0 there
	SW_BYTES_SIZE = 48,
	HEADER = 512, // XSTATE_BV: the components that are not in their initial state
	LEGACY_SIZE = 576,
	AVX_END = 832,
	// AMX tiles begin after these bytes. A thread that has not asked for them has a shorter
	// area than the regset, and a frame that claims more than the thread's area is taken for a
	// bare FXSAVE one.
	TILES = 2752,
	BEFORE_TILES = 2696,
};

#define MAGIC1       0x46505853u
#define MAGIC2       0x46505845u
#define FEATURE_X87  1u
#define FEATURE_SSE  2u
#define FEATURE_AVX  4u
#define FEATURE_TILE (3u << 17)

struct extent {
	size_t size;
	uint64_t features;
};

static uint64_t word(const uint8_t *at)
{
	uint64_t value;

	memcpy(&value, at, sizeof(value));
	return value;
}

// How much of the area is needed. Components that the frame does not name get their initial state
// from sigreturn, so those that are in it may be left out.
static struct extent extent(const struct arch_fp *fp)
{
	const uint64_t in_use = word(fp->xstate + HEADER);
	const uint64_t enabled = word(fp->xstate + SW_BYTES);
	uint64_t features = FEATURE_X87 | FEATURE_SSE;

	if (!(in_use & ~features))
		return (struct extent){ LEGACY_SIZE, features };
	features |= FEATURE_AVX;
	if (!(in_use & ~features) && fp->xstate_size >= AVX_END)
		return (struct extent){ AVX_END, features };
	if (!(in_use & FEATURE_TILE) && fp->xstate_size > TILES)
		return (struct extent){ BEFORE_TILES, enabled & ~(uint64_t)FEATURE_TILE };
	return (struct extent){ fp->xstate_size, enabled };
}

size_t x86_fp_size(const struct arch_fp *fp)
{
	return fp->xstate_size < LEGACY_SIZE ? 0 : extent(fp).size + sizeof(MAGIC2);
}

void x86_put_fp(void *block, const struct arch_fp *fp)
{
	const struct extent used = extent(fp);
	const uint32_t size = (uint32_t)used.size;
	const uint32_t magic1 = MAGIC1, magic2 = MAGIC2;
	const uint32_t extended_size = size + (uint32_t)sizeof(magic2);
	uint8_t *const to = block;

	memcpy(to, fp->xstate, used.size);
	memset(to + SW_BYTES, 0, SW_BYTES_SIZE);
	memcpy(to + SW_BYTES, &magic1, sizeof(magic1));
	memcpy(to + SW_BYTES + 4, &extended_size, sizeof(extended_size));
	memcpy(to + SW_BYTES + 8, &used.features, sizeof(used.features));
	memcpy(to + SW_BYTES + 16, &size, sizeof(size));
	memcpy(to + used.size, &magic2, sizeof(magic2));
}

int32_t x86_loaded_nr(const uint8_t *code)
{
	int32_t nr;

	memcpy(&nr, code + 1, sizeof(nr));
	return code[0] == 0xb8 && nr >= 0 ? nr : -1;
}
