/* SPDX-License-Identifier: BSD-3-Clause */
// A program of x86-32 under a kernel of 64 bits, with a thread that has values in r8 to r15, which
// 32-bit code does not see: it loaded them in a 64-bit code segment, to which any program may jump.
// The core has the registers of 32 bits only, and the thread keeps the others.
#include "scenario.h"

#include "spin.h"

#ifndef __i386__
#error "this scenario is of x86-32"
#endif

#define NT_PRSTATUS 1
#define PRSTATUS_32 144 // sizeof(struct compat_elf_prstatus), include/linux/elfcore-compat.h
#define USER32_CS 0x23  // of a 64-bit kernel: arch/x86/include/asm/segment.h
#define SI 0x51515151U
#define BP 0xb9b9b9b9U

static const uint64_t high[8] = {0x0808080808080808, 0x0909090909090909, 0x1010101010101010,
				 0x1111111111111111, 0x1212121212121212, 0x1313131313131313,
				 0x1414141414141414, 0x8000000000000015};
static _Atomic uint32_t spinning;

// Far jumps lead to code of 64 bits, whose segment is 0x33 (__USER_CS), and back. Not far calls:
// QEMU (7.2, TCG) makes their accesses to the stack as if they were the kernel's, which then dies.
void spin_high(void *flag);
uint32_t same_high(const uint64_t *want); // how many of r8 to r15 are these
extern const char high_spin[];

// To %eax in 64 bits; (%esp) is then where the way back leads, to %edx in 32 bits.
#define FAR_JUMP                                                                                   \
	"	push $0x33\n"                                                                      \
	"	push %eax\n"                                                                       \
	"	push $0x23\n"                                                                      \
	"	push %edx\n"                                                                       \
	"	ljmp *8(%esp)\n"

__asm__(".pushsection .text\n"
	".globl spin_high, same_high, high_spin\n"
	"spin_high:\n"
	"	mov 4(%esp), %ebx\n"
	"	call 1f\n"
	"1:	pop %edx\n"
	"	lea high_load - 1b(%edx), %eax\n"
	"	lea 2f - 1b(%edx), %edx\n" FAR_JUMP
	"2:	add $16, %esp\n"
	"	mov $" STRINGIFY(SI) ", %esi\n"
	"	mov $" STRINGIFY(BP) ", %ebp\n"
	"	movl $1, (%ebx)\n"
	"high_spin:\n"
	"	jmp high_spin\n"
	"same_high:\n"
	"	push %edi\n"
	"	mov 8(%esp), %edi\n"
	"	call 1f\n"
	"1:	pop %edx\n"
	"	lea high_compare - 1b(%edx), %eax\n"
	"	lea 2f - 1b(%edx), %edx\n" FAR_JUMP
	"2:	add $16, %esp\n"
	"	pop %edi\n"
	"	ret\n"
	".code64\n"
	"high_load:\n"
	".irp i,8,9,10,11,12,13,14\n"
	"	movabs $0x0101010101010101 * ((\\i / 10) * 16 + \\i - (\\i / 10) * 10), %r\\i\n"
	".endr\n"
	"	movabs $0x8000000000000015, %r15\n"
	"	ljmpl *(%rsp)\n"
	"high_compare:\n"
	"	xor %eax, %eax\n"
	".irp i,8,9,10,11,12,13,14,15\n"
	"	cmp (\\i - 8) * 8(%rdi), %r\\i\n"
	"	sete %dl\n"
	"	add %dl, %al\n"
	".endr\n"
	"	ljmpl *(%rsp)\n"
	".code32\n"
	".popsection\n");

static const char *compare(const struct spinner *s, const ucontext_t *uc)
{
	(void)s;
	const greg_t *g = uc->uc_mcontext.gregs;
	// The kernel leaves r8 to r15 alone on its way into a handler and out.
	if (same_high(high) != 8)
		return "r8 to r15 changed";
	return (uint32_t)g[REG_EIP] == (uintptr_t)high_spin && (uint32_t)g[REG_ESI] == SI
		       ? NULL
		       : "eip or esi changed";
}

int main(void)
{
	uint16_t cs;
	scenario_begin();
	__asm__("mov %%cs, %0" : "=r"(cs));
	if (cs != USER32_CS)
		scenario_impossible("this kernel is of 32 bits");
	const struct spinner *s = spin_start((struct spinner){
		.enter = spin_high,
		.compare = compare,
		.pattern = (void *)(uintptr_t)&spinning,
		.spinning = &spinning,
	});
	const uint32_t size = PRSTATUS_32;
	truth_register(s->tid, "eip", (uintptr_t)high_spin);
	truth_register(s->tid, "ebx", (uintptr_t)&spinning);
	truth_register(s->tid, "esi", SI);
	truth_register(s->tid, "ebp", BP);
	truth_register(s->tid, "cs", USER32_CS);
	truth_bytes("size-0x1", s->tid, &size, sizeof(size));
	scenario_hold(spin_verify, NULL);
}
