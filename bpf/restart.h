/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Calls that a signal interrupted. They are one event, whether they start again or fail with EINTR. */
#ifndef FIM_RESTART_H
#define FIM_RESTART_H

#include "kernel.h"
#include "context.h"
#include "operation.h"
#include "returns.h"

/*
 * signal_setup_done(int failed, struct ksignal *ksig, int stepping): the kernel
 * is about to run a handler, and has decided by the handler's flags whether the
 * call starts again. Without a handler it always does.
 */
static __always_inline int signal_given(void *ctx, __u32 family)
{
	struct fim_inflight *op = fim_op_lookup_inline();
	struct ksignal *signal;

	if (!op || !op->interrupted)
		return 0;
	signal = (void *)fim_arg(ctx, family, 1);
	op->interrupted = 0;
	if (op->ret == -ERESTARTNOINTR ||
	    (op->ret == -ERESTARTSYS && (BPF_CORE_READ(signal, ka.sa.sa_flags) & SA_RESTART)))
		return fim_op_repeat();
	return FIM_JUDGES_APART(family) ? fim_op_hand_over(ctx, family, op, -EINTR)
					: fim_op_finish(ctx, op, -EINTR);
}

#endif /* FIM_RESTART_H */
