/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* A program's context: arguments, return value and stack of the function that it is attached to. */
#ifndef FIM_CONTEXT_H
#define FIM_CONTEXT_H

#include "kernel.h"
#include "event.h"
#include "drift.h"
#include "inflight.h"

/*
 * How many arguments the function at each point has on this kernel: fexit
 * finds the return value behind them (bpf_get_func_ret() came in 5.17).
 */
const volatile __u8 fim_arguments[FIM_POINTS] = {};

/*
 * Returns an argument as a number, whatever the program's type. The context of
 * a trampoline is read like foreign memory, because the verifier would type the
 * arguments as pointers, and 5.10 refuses to hand those to a global function.
 */
static __always_inline __u64 fim_arg(void *ctx, __u32 family, int n)
{
	struct pt_regs *regs = ctx;
	__u64 value = 0;

	if (family == FIM_KPROBE || family == FIM_KPROBE_MULTI) {
		switch (n) {
		case 0:
			return PT_REGS_PARM1(regs);
		case 1:
			return PT_REGS_PARM2(regs);
		case 2:
			return PT_REGS_PARM3(regs);
		case 3:
			return PT_REGS_PARM4(regs);
		case 4:
			return PT_REGS_PARM5(regs);
		default:
			return FIM_PARM6(regs);
		}
	}
	fim_read_kernel(&value, sizeof(value), (__u64 *)ctx + n);
	return value;
}

#define FIM_TRAMPOLINES(family) ((family) == FIM_LSM || (family) == FIM_FENTRY)

/*
 * Returns an argument that programs only store or read from: in the context of a
 * trampoline it is a typed pointer, with which they may not compute, and which
 * they may not pass to a global function.
 */
static __always_inline void *fim_arg_pointer(void *ctx, __u32 family, int n)
{
	if (FIM_TRAMPOLINES(family))
		return (void *)((__u64 *)ctx)[n];
	return (void *)fim_arg(ctx, family, n);
}

/* Reads a field through such a pointer: an instruction where it is typed, in place of a call. */
#define fim_field(family, pointer, field)                                                                    \
	(FIM_TRAMPOLINES(family) ? (pointer)->field : BPF_CORE_READ(pointer, field))

/*
 * Returns a typed pointer, which is not NULL, as a number: on the stack it is no pointer any
 * more once a byte of it is written. The highest byte of an address of the kernel is 0xff; on
 * arm64 it may be a tag, and there the number is read like foreign memory. A function of its
 * own, because the programs that need it have no stack left.
 */
FIM_ONCE __u64 fim_number(const void *pointer)
{
#if defined(__TARGET_ARCH_x86)
	union {
		const void *volatile pointer;
		volatile __u64 number;
		volatile __u8 bytes[sizeof(__u64)];
	} word;

	word.pointer = pointer;
	word.bytes[sizeof(__u64) - 1] = 0xff;
	return word.number;
#else
	__u64 number = 0;

	fim_read_kernel(&number, sizeof(number), &pointer);
	return number;
#endif
}

/* Returns such a pointer, which is not NULL, as a number. */
static __always_inline void *fim_untyped(__u32 family, const void *pointer)
{
	return FIM_TRAMPOLINES(family) ? (void *)fim_number(pointer) : (void *)pointer;
}

/* Returns the address of an object of the kernel that is an argument, never NULL, as a number. */
static __always_inline void *fim_arg_object(void *ctx, __u32 family, int n)
{
	return fim_untyped(family, fim_arg_pointer(ctx, family, n));
}

/* The same for a function that takes the mount's identities first on some kernels: see below. */
static __always_inline void *fim_arg_pointer_after_idmap(void *ctx, __u32 family, int n)
{
	void *early = fim_arg_pointer(ctx, family, n);
	void *late = fim_arg_pointer(ctx, family, n + 1);

	barrier_var(early);
	barrier_var(late);
	return fim_has_idmap() ? late : early;
}

/*
 * Returns an argument of a function that takes the mount's identities first on
 * some kernels: its number is counted without them. Both are read before one is
 * chosen: with the place in a variable the compiler would read registers at an
 * offset that the verifier cannot know.
 */
static __always_inline __u64 fim_arg_after_idmap(void *ctx, __u32 family, int n)
{
	__u64 early = fim_arg(ctx, family, n);
	__u64 late = fim_arg(ctx, family, n + 1);

	barrier_var(early);
	barrier_var(late);
	return fim_has_idmap() ? late : early;
}

static __always_inline __s64 fim_ret(void *ctx, __u32 family, __u32 point)
{
	if (family == FIM_KPROBE || family == FIM_KPROBE_MULTI)
		return PT_REGS_RC((struct pt_regs *)ctx);
	return fim_arg(ctx, family, fim_arguments[point]);
}

/* Returns an address on the stack: that of a nested operation is lower. */
static __always_inline __u64 fim_frame(void *ctx, __u32 family)
{
	if (family == FIM_KPROBE || family == FIM_KPROBE_MULTI)
		return PT_REGS_SP((struct pt_regs *)ctx);
	return (__u64)fim_untyped(family, ctx);
}

#endif /* FIM_CONTEXT_H */
