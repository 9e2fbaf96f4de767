/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The system call that the current thread has made: its number, and the registers with its arguments. */
#ifndef FIM_CALLER_H
#define FIM_CALLER_H

#include "kernel.h"

#define FIM_CALLS     512 /* numbers of native calls; 32-bit ones follow */
#define FIM_NO_CALL   (2 * FIM_CALLS)
#define FIM_X32	      0x40000000
#define FIM_TS_COMPAT 2 /* arch/x86/include/asm/thread_info.h */

#ifdef FIM_BCC_H
static __always_inline int fim_is_compat_call(void)
{
#if defined(__x86_64__)
	struct task_struct *task = (void *)bpf_get_current_task();

	return !!(BPF_CORE_READ(task, thread_info.status) & FIM_TS_COMPAT);
#else
	return 0;
#endif
}
#else
struct thread_info___status {
	__u32 status;
} __attribute__((preserve_access_index));

struct task_struct___info {
	struct thread_info___status thread_info;
} __attribute__((preserve_access_index));

/* Whether the call has the number of a 32-bit one, on x86. */
static __always_inline int fim_is_compat_call(void)
{
	struct task_struct___info *task = (void *)bpf_get_current_task();

	return bpf_core_field_exists(task->thread_info.status) &&
	       (BPF_CORE_READ(task, thread_info.status) & FIM_TS_COMPAT);
}
#endif

/* Returns the index of a call in the table of agent/hooks/syscalls.py. 32-bit calls have one on x86 only. */
static __always_inline __u32 fim_call_number(long id)
{
	__u32 number = (__u32)id & ~FIM_X32;

	if (number >= FIM_CALLS)
		return FIM_NO_CALL;
	return fim_is_compat_call() ? FIM_CALLS + number : number;
}

#if defined(__TARGET_ARCH_x86) || defined(__x86_64__)
#define FIM_OPEN_BY_HANDLE   304
#define FIM_OPEN_BY_HANDLE32 (FIM_CALLS + 342)
#else
#define FIM_OPEN_BY_HANDLE   265
#define FIM_OPEN_BY_HANDLE32 FIM_OPEN_BY_HANDLE /* none is known */
#endif

#if defined(__TARGET_ARCH_x86) || defined(__x86_64__)
#define FIM_STACK 16384 /* bytes of a thread's stack in the kernel; twice as many with KASAN */
#define FIM_FRED  16	/* bytes above the registers of a kernel that is built for FRED (from 6.9) */

/* Whether these are the registers of a thread in user space: the privilege level is in two bits of each. */
static __always_inline int fim_is_of_user(struct pt_regs *regs)
{
	return (BPF_CORE_READ(regs, cs) & 3) == 3 && (BPF_CORE_READ(regs, ss) & 3) == 3;
}

/* Returns the registers with which the current thread entered the kernel, or NULL. */
static __always_inline struct pt_regs *fim_user_regs(void)
{
	struct task_struct *task = (void *)bpf_get_current_task();
	void *stack = BPF_CORE_READ(task, stack);
	struct pt_regs *regs;
	int i;

	for (i = 0; i < 4; i++) {
		regs = stack + (FIM_STACK << (i >> 1)) - sizeof(*regs) - (i & 1) * FIM_FRED;
		if (fim_is_of_user(regs))
			return regs;
	}
	return NULL;
}

/* Returns the index of the call that was made with these registers. */
static __always_inline __u32 fim_call_of(struct pt_regs *regs)
{
	return fim_call_number(BPF_CORE_READ(regs, orig_ax));
}

#else
#define FIM_STACK     16384 /* with pages of 4 or 16 KiB */
#define FIM_LARGE     65536 /* with pages of 64 KiB */
#define FIM_PSTATE_EL 0xf   /* 0: user space */

/* Returns the registers with which the current thread entered the kernel, or NULL. */
static __always_inline struct pt_regs *fim_user_regs(void)
{
	struct task_struct *task = (void *)bpf_get_current_task();
	void *top = BPF_CORE_READ(task, stack) - bpf_core_type_size(struct pt_regs___called);
	struct pt_regs *regs = top + FIM_STACK;

	if (!BPF_CORE_READ((struct user_pt_regs *)regs, pc)) /* behind an instruction */
		regs = top + FIM_LARGE;
	return BPF_CORE_READ((struct user_pt_regs *)regs, pstate) & FIM_PSTATE_EL ? NULL : regs;
}

/* Returns the index of the call that was made with these registers. */
static __always_inline __u32 fim_call_of(struct pt_regs *regs)
{
	return fim_call_number(BPF_CORE_READ((struct pt_regs___called *)regs, syscallno));
}

#endif

/* Returns the index of the call that the current thread has made, or FIM_NO_CALL. */
static __always_inline __u32 fim_caller_call(void)
{
	struct task_struct *task = (void *)bpf_get_current_task();
	struct pt_regs *regs = NULL;

	if (!(BPF_CORE_READ(task, flags) & (PF_IO_WORKER | PF_KTHREAD)))
		regs = fim_user_regs();
	return regs ? fim_call_of(regs) : FIM_NO_CALL;
}

#endif /* FIM_CALLER_H */
