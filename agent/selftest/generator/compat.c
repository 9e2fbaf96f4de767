// SPDX-License-Identifier: Apache-2.0
/* 32-bit system calls of a 64-bit process. */
#include <errno.h>
#include <linux/fs.h>

#include "fim-gen.h"

#ifdef __x86_64__
/* The static text of a script and the frame of a call lie below 4 GiB. int 0x80 kills a process where the
 * kernel has no 32-bit calls.
 */
static long call32(long nr, const long *v)
{
	long ret = nr;

	asm volatile("int $0x80"
		     : "+a"(ret)
		     : "b"(v[0]), "c"(v[1]), "d"(v[2]), "S"(v[3]), "D"(v[4])
		     : "memory", "r8", "r9", "r10", "r11");
	return (int)ret;
}
#else
static long call32(long nr, const long *v)
{
	(void)nr;
	(void)v;
	return -ENOSYS;
}
#endif

long run_compat(const struct op *op)
{
	return call32(op->call->nr, call_values(op));
}

/* Like run_chattr(): the flags lie in the frame of the call. */
long run_chattr32(const struct op *op)
{
	const long *v = call_values(op);
	const long asked[5] = { v[0], FS_IOC32_SETFLAGS, (long)&v[1] };

	return call32(op->call->nr, asked);
}
