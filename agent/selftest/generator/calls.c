// SPDX-License-Identifier: Apache-2.0
/* The calls a script can make, as a table, and how their words become arguments. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/io_uring.h>
#include <linux/openat2.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "fim-gen.h"

#define PATH_ROOM 8192 /* an expanded %d may pass PATH_MAX: the kernel is to refuse it, not we */

static long vars[MAX_VARS];

static long run_comm(const struct op *op);
static long run_exec(const struct op *op);
static long run_mapwrite(const struct op *op);
static long run_cpu(const struct op *op);

#define CALL(name, spec)                                                                                     \
	{                                                                                                    \
#name, SYS_##name, spec, NULL, false                                                         \
	}

static const struct call calls[] = {
	{ "repeat", 0, "n", run_repeat, true },
	{ "rate", 0, "rfs", run_rate, true },
	{ "fork", 0, "", run_fork, true },
	{ "thread", 0, "", run_thread, true },
	{ "wait", 0, "n", run_wait, false },
	{ "stopped", 0, "n", run_stopped, false },
	{ "resume", 0, "n", run_resume, false },
	{ "comm", 0, "p", run_comm, false },
	{ "cpu", 0, "n", run_cpu, false },
	{ "exec", 0, "p?ppppppp", run_exec, false },
	{ "open32", 5, "pn?n", run_compat, false }, /* numbers of i386 */
	{ "link32", 9, "pp", run_compat, false },
	{ "unlink32", 10, "p", run_compat, false },
	{ "chmod32", 15, "pn", run_compat, false },
	{ "rename32", 38, "pp", run_compat, false },
	{ "mkdir32", 39, "pn", run_compat, false },
	{ "rmdir32", 40, "p", run_compat, false },
	{ "symlink32", 83, "pp", run_compat, false },
	{ "truncate32", 92, "pn", run_compat, false },
	{ "ring_features", 0, "", run_ring_features, false },
	{ "ring_openat", IORING_OP_OPENAT, "npn?n", run_ring, false },
	{ "ring_unlinkat", IORING_OP_UNLINKAT, "np?n", run_ring, false },
	{ "ring_renameat", IORING_OP_RENAMEAT, "npnp", run_ring, false },
	{ "ring_mkdirat", IORING_OP_MKDIRAT, "npn", run_ring, false },
	{ "ring_linkat", IORING_OP_LINKAT, "npnp", run_ring, false },
	{ "ring_symlinkat", IORING_OP_SYMLINKAT, "pnp", run_ring, false },
	{ "ring_openat2", IORING_OP_OPENAT2, "npnn", run_ring, false },
	{ "ring_setxattr", RING_SETXATTR, "ppp", run_ring, false },
	{ "open_handle", 0, "pn", run_open_handle, false },
	{ "splice", 0, "nnn", run_splice, false },
	{ "mapwrite", 0, "np", run_mapwrite, false },
	{ "umount", SYS_umount2, "p?n", NULL, false },
#if defined(SYS_open) && !defined(AT_CALLS_ONLY)
	CALL(open, "pn?n"),
	CALL(creat, "pn"),
	CALL(unlink, "p"),
	CALL(rmdir, "p"),
	CALL(mkdir, "pn"),
	CALL(rename, "pp"),
	CALL(link, "pp"),
	CALL(symlink, "pp"),
	CALL(mknod, "pn?n"),
	CALL(chmod, "pn"),
	CALL(chown, "pnn"),
#else /* newer architectures were born without these: the same by other calls */
	{ "open", SYS_openat, "cpn?n", NULL, false },
	{ "unlink", SYS_unlinkat, "cp", NULL, false },
	{ "rmdir", SYS_unlinkat, "cpd", NULL, false },
	{ "mkdir", SYS_mkdirat, "cpn", NULL, false },
	{ "rename", SYS_renameat2, "cpcp", NULL, false },
	{ "link", SYS_linkat, "cpcp", NULL, false },
	{ "symlink", SYS_symlinkat, "pcp", NULL, false },
	{ "mknod", SYS_mknodat, "cpn?n", NULL, false },
	{ "chmod", SYS_fchmodat, "cpn", NULL, false },
	{ "chown", SYS_fchownat, "cpnn", NULL, false },
#endif
	CALL(openat, "npn?n"),
	CALL(openat2, "npn?nnh"),
	CALL(close, "n"),
	CALL(unlinkat, "np?n"),
	CALL(mkdirat, "npn"),
	CALL(renameat, "npnp"),
	CALL(renameat2, "npnp?n"),
	CALL(linkat, "npnp?n"),
	CALL(symlinkat, "pnp"),
	CALL(mknodat, "npn?n"),
	CALL(truncate, "pn"),
	CALL(ftruncate, "nn"),
	CALL(fchmod, "nn"),
	CALL(fchmodat, "npn"),
	CALL(fchown, "nnn"),
	CALL(fchownat, "npnn?n"),
	CALL(utimensat, "npt?n"),
	CALL(setxattr, "pppl?n"),
	CALL(lsetxattr, "pppl?n"),
	CALL(fsetxattr, "nppl?n"),
	CALL(removexattr, "pp"),
	CALL(lremovexattr, "pp"),
	CALL(fremovexattr, "np"),
	CALL(mount, "ppp?np"),
	CALL(umount2, "p?n"),
	CALL(write, "npl"),
	CALL(chdir, "p"),
	CALL(fchdir, "n"),
	CALL(chroot, "p"),
	CALL(unshare, "n"),
	CALL(setuid, "n"),
	CALL(setgid, "n"),
	CALL(setresuid, "nnn"),
	CALL(umask, "n"),
	CALL(dup, "n"),
	CALL(sendfile, "nnnn"),
	CALL(copy_file_range, "nnnnnn"),
	CALL(fsync, "n"),
	CALL(exit_group, "n"),
};

const struct call *call_find(const char *name)
{
	for (size_t i = 0; i < ARRAY_SIZE(calls); i++) {
		if (!strcmp(calls[i].name, name))
			return &calls[i];
	}
	return NULL;
}

void var_set(int var, long value)
{
	if (var != NO_VAR)
		vars[var] = value;
}

long value_of(const struct arg *arg)
{
	return arg->kind == ARG_VAR ? vars[arg->number] : arg->number;
}

/* The text with %d filled in: into @room where there is something to fill. */
static const char *text_of(const struct arg *arg, char *room, size_t *len)
{
	char *to = room;

	*len = arg->len;
	if (!arg->indexed)
		return arg->text;
	for (const char *from = arg->text; *from && to < room + PATH_ROOM - 24; from++) {
		if (*from != '%')
			*to++ = *from;
		else if (*++from == '%')
			*to++ = '%';
		else
			to += sprintf(to, "%ld", turn_now());
	}
	*to = '\0';
	*len = to - room;
	return room;
}

static void times_of(const char *word, struct timespec times[2])
{
	times[0] = (struct timespec){ .tv_sec = atol(word) };
	if (!strcmp(word, "now"))
		times[0].tv_nsec = UTIME_NOW;
	times[1] = times[0];
}

/* Everything that the arguments of one call point to. */
struct frame {
	long value[MAX_ARGS];
	char text[3][PATH_ROOM];
	struct timespec times[2];
	struct open_how how;
};

static void fold_how(long *value, struct open_how *how)
{
	how->flags = value[0];
	how->mode = value[1];
	how->resolve = value[2];
	value[0] = (long)how;
	value[1] = sizeof(*how);
}

static void fill_frame(const struct op *op, struct frame *frame)
{
	const struct arg *arg = op->arg;
	long *value = frame->value;
	size_t len = 0;
	int texts = 0;

	for (const char *spec = op->call->spec; *spec; spec++) {
		if (*spec == 'h') {
			fold_how(value - 3, &frame->how);
		} else if (*spec == 'l') {
			*value++ = (long)len;
		} else if (*spec == 'c') {
			*value++ = AT_FDCWD;
		} else if (*spec == 'd') {
			*value++ = AT_REMOVEDIR;
		} else if (*spec == '?') {
			continue;
		} else if (arg == op->arg + op->args) {
			*value++ = 0;
		} else if (*spec == 'p') {
			*value++ = (long)text_of(arg++, frame->text[texts++], &len);
		} else if (*spec == 't') {
			times_of(arg++->text, frame->times);
			*value++ = (long)frame->times;
		} else {
			*value++ = value_of(arg++);
		}
	}
}

long call_make(const struct op *op)
{
	static __thread struct frame frame;
	const long *v = frame.value;
	long ret;

	if (op->call->run)
		return op->call->run(op);
	memset(frame.value, 0, sizeof(frame.value));
	fill_frame(op, &frame);
	ret = syscall(op->call->nr, v[0], v[1], v[2], v[3], v[4], v[5]);
	return ret < 0 ? -errno : ret;
}

static long run_comm(const struct op *op)
{
	return prctl(PR_SET_NAME, op->arg[0].text) < 0 ? -errno : 0;
}

static long run_exec(const struct op *op)
{
	static char *const environment[] = { NULL };
	char *argv[MAX_ARGS + 1] = { NULL };

	for (int i = 0; i < op->args; i++)
		argv[i] = (char *)op->arg[i].text;
	report_success(op); /* nobody is left to tell it afterwards */
	execve(argv[0], argv, environment);
	return -errno;
}

/* Writes a text into a file through memory: the file is made large enough by a write. */
static long run_mapwrite(const struct op *op)
{
	const struct arg *text = &op->arg[1];
	int fd = (int)value_of(&op->arg[0]);
	void *memory;

	if (pwrite(fd, "", 1, (off_t)text->len) < 0)
		return -errno;
	memory = mmap(NULL, text->len, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (memory == MAP_FAILED)
		return -errno;
	memcpy(memory, text->text, text->len);
	return munmap(memory, text->len) < 0 ? -errno : (long)text->len;
}

/* On this processor and no other, from here on. */
static long run_cpu(const struct op *op)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(value_of(&op->arg[0]), &set);
	return sched_setaffinity(0, sizeof(set), &set) < 0 ? -errno : 0;
}
